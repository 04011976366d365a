/* Reads JSON texts in place: a compiled model's notes and tables, which our converter wrote. */
#include <stdlib.h>
#include <string.h>

#include "ep.h"

static ep_json none(void) { return (ep_json){NULL, NULL}; }

static ep_json blank(ep_json t) {
    while (t.at < t.end && strchr(" \t\r\n,:", *t.at) && *t.at) t.at++;
    return t;
}

/* What follows the value at t. */
static ep_json after(ep_json t) {
    t = blank(t);
    size_t depth = 0;
    do {
        if (t.at >= t.end) return t;
        char c = *t.at;
        if (c == '"') {
            for (t.at++; t.at < t.end && *t.at != '"'; t.at++)
                if (*t.at == '\\') t.at++;
            t.at = t.at < t.end ? t.at + 1 : t.end;
        } else if (c == '{' || c == '[') {
            depth++, t.at++;
        } else if (c == '}' || c == ']') {
            if (!depth) return t;
            depth--, t.at++;
        } else if (depth) {
            t.at++;
        } else {
            while (t.at < t.end && !(*t.at && strchr(",}] \t\r\n", *t.at))) t.at++;
        }
    } while (depth);
    return t;
}

ep_json ep_json_of(const char *text, size_t size) { return text ? blank((ep_json){text, text + size}) : none(); }

ep_json ep_json_member(ep_json t, const char *key) {
    if (!t.at || t.at >= t.end || *t.at != '{') return none();
    size_t n = strlen(key);
    for (t.at++;;) {
        t = blank(t);
        if (t.at >= t.end || *t.at != '"') return none();
        const char *name = t.at + 1;
        ep_json value = blank(after(t));
        if (value.at >= value.end) return none();
        if ((size_t)(value.at - name) > n && !memcmp(name, key, n) && name[n] == '"') return value;
        t = after(value);
        if (t.at == value.at) return none();
    }
}

ep_json ep_json_item(ep_json t, size_t index) {
    if (!t.at || t.at >= t.end || *t.at != '[') return none();
    t.at++;
    for (t = blank(t); t.at < t.end && *t.at != ']'; index--) {
        if (!index) return t;
        ep_json next = blank(after(t));
        if (next.at == t.at) return none();
        t = next;
    }
    return none();
}

int ep_json_text(ep_json t, char *room, size_t size) {
    if (!t.at || t.at >= t.end || *t.at != '"') return -1;
    size_t n = 0;
    for (t.at++; t.at < t.end && *t.at != '"'; t.at++) {
        char c = *t.at;
        if (c == '\\') { /* what our converter writes has no others: names of files are ASCII there, see below */
            if (++t.at >= t.end) return -1;
            c = *t.at;
            if (c == 'u') {
                char digits[5] = {0}, *end;
                if (t.end - t.at < 5) return -1;
                memcpy(digits, t.at + 1, 4);
                unsigned long code = strtoul(digits, &end, 16);
                if (*end || n + 4 > size) return -1;
                t.at += 4;
                if (code >= 0xD800 && code < 0xDC00 && t.end - t.at > 6 && t.at[1] == '\\' && t.at[2] == 'u') {
                    memcpy(digits, t.at + 3, 4);
                    code = 0x10000 + ((code - 0xD800) << 10) + (strtoul(digits, &end, 16) - 0xDC00);
                    t.at += 6;
                }
                if (code < 0x80) {
                    room[n++] = (char)code;
                } else if (code < 0x800) {
                    room[n++] = (char)(0xC0 | code >> 6);
                    room[n++] = (char)(0x80 | (code & 63));
                } else if (code < 0x10000) {
                    room[n++] = (char)(0xE0 | code >> 12);
                    room[n++] = (char)(0x80 | (code >> 6 & 63));
                    room[n++] = (char)(0x80 | (code & 63));
                } else {
                    room[n++] = (char)(0xF0 | code >> 18);
                    room[n++] = (char)(0x80 | (code >> 12 & 63));
                    room[n++] = (char)(0x80 | (code >> 6 & 63));
                    room[n++] = (char)(0x80 | (code & 63));
                }
                continue;
            }
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
        }
        if (n + 1 >= size) return -1;
        room[n++] = c;
    }
    if (t.at >= t.end || n >= size) return -1;
    room[n] = 0;
    return 0;
}

int ep_json_whole(ep_json t, uint64_t *number) {
    if (!t.at || t.at >= t.end || *t.at < '0' || *t.at > '9') return -1;
    uint64_t value = 0;
    for (; t.at < t.end && *t.at >= '0' && *t.at <= '9'; t.at++) {
        if (value > (UINT64_MAX - 9) / 10) return -1;
        value = 10 * value + (uint64_t)(*t.at - '0');
    }
    *number = value;
    return t.at < t.end && (*t.at == '.' || *t.at == 'e' || *t.at == 'E') ? -1 : 0;
}

int ep_json_same(ep_json one, ep_json other) {
    if (!one.at || !other.at) return one.at == other.at;
    size_t n = (size_t)(after(one).at - one.at), m = (size_t)(after(other).at - other.at);
    return n == m && !memcmp(one.at, other.at, n);
}
