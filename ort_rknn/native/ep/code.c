/* The compiled code of an EPContext node: inside the node, or in a file beside the model; for one SoC or several. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ep.h"

#define AGAIN "Copy the file again, or convert the original ONNX model again"

static void forget(const ep_ort *ort, OrtStatus *status) {
    if (status) ort->api->ReleaseStatus(status);
}

static const OrtOpAttr *attribute(const ep_ort *ort, const OrtNode *node, const char *name) {
    const OrtOpAttr *found = NULL;
    forget(ort, ort->api->Node_GetAttributeByName(node, name, &found));
    return found;
}

/* The bytes of a string attribute in room of the caller's own, with a 0 behind them; NULL: there is none, or no memory. */
static char *string_of(const ep_ort *ort, const OrtNode *node, const char *name, size_t *size) {
    const OrtOpAttr *found = attribute(ort, node, name);
    size_t need = 0, got = 0;
    if (!found) return NULL;
    forget(ort, ort->api->ReadOpAttr(found, ORT_ATTR_STRING, NULL, 0, &need)); /* it says that the room is too small */
    char *text = malloc(need + 1);
    if (!text) return NULL;
    OrtStatus *status = need ? ort->api->ReadOpAttr(found, ORT_ATTR_STRING, text, need, &got) : NULL;
    if (status) {
        forget(ort, status);
        free(text);
        return NULL;
    }
    text[got] = 0;
    if (size) *size = got;
    return text;
}

static int64_t whole_of(const ep_ort *ort, const OrtNode *node, const char *name, int64_t otherwise) {
    const OrtOpAttr *found = attribute(ort, node, name);
    int64_t value = otherwise;
    size_t got = 0;
    if (found) forget(ort, ort->api->ReadOpAttr(found, ORT_ATTR_INT, &value, sizeof value, &got));
    return found && got ? value : otherwise;
}

int ep_is_ours(const ep_ort *ort, const OrtNode *node) {
    const char *type = "", *domain = "";
    forget(ort, ort->api->Node_GetOperatorType(node, &type));
    forget(ort, ort->api->Node_GetDomain(node, &domain));
    if (strcmp(type, "EPContext") || strcmp(domain, "com.microsoft")) return 0;
    char *source = string_of(ort, node, "source", NULL);
    int ours = source && (!strcmp(source, EP_NAME) || !strcmp(source, EP_ALIAS));
    free(source);
    return ours;
}

int ep_check_bundle(const char *table, ep_failure *f) {
    ep_json variants = ep_json_member(ep_json_of(table, strlen(table)), "variants");
    ep_json first = ep_json_member(ep_json_item(variants, 0), "shapes"), other;
    for (size_t i = 1; (other = ep_json_item(variants, i)).at; i++)
        if (!ep_json_same(first, ep_json_member(other, "shapes")))
            return ep_fail(
                f, ORT_NOT_IMPLEMENTED,
                "this file holds compiled code for several input shapes, of which onnxruntime itself sees only the "
                "first: convert the model once for each shape (one --shape, one file), or open it with ort_rknn, "
                "which takes the code that fits");
    return 0;
}

/* Which row of the codes' table is for this SoC: by name, else by family; -1: none. */
static int row_for(ep_json codes, const ep_target *here) {
    char name[32];
    int family = -1, default_soc = -1;
    size_t count = 0;
    for (ep_json row; (row = ep_json_item(codes, count)).at; count++) {
        const ep_target *target =
            ep_json_text(ep_json_member(row, "target"), name, sizeof name) ? NULL : ep_find_target(name);
        if (target && here && target == here) return (int)count;
        if (target && here && family < 0 && !strcmp(target->family, here->family)) family = (int)count;
        if (target && default_soc < 0 && !strcmp(target->name, "rk3588")) default_soc = (int)count; /* most boards */
    }
    if (here) return family;
    return default_soc >= 0 ? default_soc : count ? 0 : -1; /* an emulated runtime says nothing of its SoC */
}

static int compare_digest(const char found[65], ep_json row, const char *what, ep_failure *f) {
    char expected[80];
    if (ep_json_text(ep_json_member(row, "sha256"), expected, sizeof expected) || !strcmp(found, expected)) return 0;
    return ep_fail(f, ORT_INVALID_GRAPH, "%s is damaged (its digest differs). " AGAIN, what);
}

/* Block by block: a mapping of hundreds of megabytes would count as this process's memory. */
static int check_file(int fd, ep_json row, const char *path, ep_failure *f) {
    enum { BLOCK = 1 << 18 };
    char *block = malloc(BLOCK), found[65];
    ep_sha256_state state;
    ssize_t n = 1;
    if (!block) return ep_no_memory(f);
    ep_sha256_begin(&state);
    while (n > 0) {
        n = read(fd, block, BLOCK);
        if (n < 0 && errno == EINTR) n = 1;
        else if (n > 0) ep_sha256_add(&state, block, (size_t)n);
    }
    free(block);
    if (n < 0) return ep_fail(f, ORT_INVALID_GRAPH, "%s cannot be read: %s", path, strerror(errno));
    ep_sha256_end(&state, found);
    return compare_digest(found, row, path, f);
}

static int read_beside(const char *file, const char *model_path, const ep_options *o, ep_json row, ep_code *c,
                       ep_failure *f) {
    char folder[PATH_MAX] = "", path[2 * PATH_MAX];
    if (!*file || strchr(file, '/') || !strcmp(file, ".") || !strcmp(file, ".."))
        return ep_fail(f, ORT_INVALID_GRAPH,
                       "segment %s names the file '%s', which is not beside the model. Convert it again", c->name,
                       file);
    if (o->folder) {
        snprintf(folder, sizeof folder, "%s", o->folder);
    } else if (model_path && *model_path) {
        const char *slash = strrchr(model_path, '/');
        if (slash)
            snprintf(folder, sizeof folder, "%.*s", slash == model_path ? 1 : (int)(slash - model_path), model_path);
        else snprintf(folder, sizeof folder, ".");
    } else {
        return ep_fail(
            f, ORT_INVALID_ARGUMENT,
            "the compiled code of %s is in %s: give the model's path, not its bytes, or name where the model would lie "
            "with the session option ep.context_file_path",
            c->name, file);
    }
    snprintf(path, sizeof path, "%s/%s", folder, file);
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || !st.st_size) {
        int missing = fd < 0 && errno == ENOENT;
        if (fd >= 0) close(fd);
        if (missing)
            return ep_fail(f, ORT_NO_SUCHFILE,
                           "%s is needed beside the model, and it is not there. Copy both files together", path);
        return ep_fail(f, ORT_INVALID_GRAPH, "%s cannot be read: %s", path,
                       fd < 0 ? strerror(errno) : "it is no file, or empty");
    }
    check_file(fd, row, path, f); /* the runtime opens the path itself: nobody keeps a copy */
    close(fd);
    c->size = (size_t)st.st_size;
    if (!f->code && !(c->path = strdup(path))) ep_no_memory(f);
    return f->code;
}

static int read_inside(ep_json row, ep_code *c, ep_failure *f) {
    uint64_t offset = 0, size = c->size;
    char what[300];
    snprintf(what, sizeof what, "the compiled code of %.200s", c->name);
    if (row.at && (ep_json_whole(ep_json_member(row, "offset"), &offset) ||
                   ep_json_whole(ep_json_member(row, "size"), &size) || offset > c->size || size > c->size - offset))
        return ep_fail(f, ORT_INVALID_GRAPH, "%s is damaged (it ends too early). " AGAIN, what);
    if (!size) return ep_fail(f, ORT_INVALID_GRAPH, "%s is empty. " AGAIN, what);
    c->offset = (size_t)offset;
    c->size = (size_t)size;
    char found[65];
    ep_sha256((const char *)c->data + offset, (size_t)size, found);
    return compare_digest(found, row, what, f);
}

static int no_code_for(const char *architecture, const ep_target *here, ep_code *c, ep_failure *f) {
    return ep_fail(
        f, ORT_INVALID_GRAPH,
        "segment %s is compiled for %s, this board is %s: compile it for target '%s' (ort-rknn convert --target %s)",
        c->name, architecture && *architecture ? architecture : "another SoC", here ? here->name : "unknown",
        here ? here->name : "rk3588", here ? here->name : "rk3588");
}

int ep_read_code(const ep_ort *ort, const OrtNode *node, const char *model_path, const ep_options *o,
                 const ep_target *here, ep_code *c, ep_failure *f) {
    size_t notes_size = 0;
    char *notes = string_of(ort, node, "notes", &notes_size),
         *architecture = string_of(ort, node, "hardware_architecture", NULL);
    char *toolkit = string_of(ort, node, "ep_sdk_version", NULL), *file = NULL;
    ep_json codes = ep_json_member(ep_json_of(notes, notes_size), "codes"), row = {NULL, NULL};
    memset(c, 0, sizeof *c);
    if (!(c->name = string_of(ort, node, "partition_name", NULL))) {
        const char *name = "";
        forget(ort, ort->api->Node_GetName(node, &name));
        c->name = strdup(name);
    }
    snprintf(c->toolkit, sizeof c->toolkit, "%s", toolkit ? toolkit : "");
    if (!c->name) {
        ep_no_memory(f);
    } else if (!whole_of(ort, node, "main_context", 1)) {
        ep_fail(f, ORT_NOT_IMPLEMENTED,
                "EPContext node %s has its code in another node (main_context is 0), which no tool for "
                "Rockchip NPUs writes",
                c->name);
    } else if (codes.at) {
        int at = row_for(codes, here);
        if (at < 0) {
            no_code_for(architecture, here, c, f);
        } else {
            row = ep_json_item(codes, (size_t)at);
            ep_json_text(ep_json_member(row, "target"), c->target, sizeof c->target);
        }
    } else { /* made by somebody else: all of it is the code */
        const ep_target *made_for = architecture ? ep_find_target(architecture) : NULL;
        snprintf(c->target, sizeof c->target, "%s", architecture ? architecture : "");
        if (made_for && here && strcmp(made_for->family, here->family)) no_code_for(architecture, here, c, f);
    }
    if (!f->code && whole_of(ort, node, "embed_mode", 1)) {
        c->data = string_of(ort, node, "ep_cache_context", &c->size);
        if (c->data) read_inside(row, c, f);
        else
            ep_fail(f, ORT_INVALID_GRAPH, "segment %s has no compiled code. Convert the original ONNX model again",
                    c->name);
    } else if (!f->code) {
        char name[NAME_MAX + 1];
        if (!ep_json_text(ep_json_member(row, "file"), name, sizeof name)) file = strdup(name);
        else file = string_of(ort, node, "ep_cache_context", NULL);
        if (file) read_beside(file, model_path, o, row, c, f);
        else
            ep_fail(f, ORT_INVALID_GRAPH, "segment %s names no file with its compiled code. Convert it again", c->name);
    }
    free(notes);
    free(architecture);
    free(toolkit);
    free(file);
    if (f->code) ep_free_code(c);
    return f->code;
}

void ep_free_code(ep_code *c) {
    free(c->name);
    free(c->path);
    free(c->data);
    memset(c, 0, sizeof *c);
}

void ep_code_facts(const void *data, size_t size, char version[64], char target[64]) {
    uint64_t length, trailer;
    *version = *target = 0;
    if (size < 72) return;
    memcpy(&length, (const char *)data + 16, 8);
    if (length > size - 72) return;
    memcpy(&trailer, (const char *)data + 64 + length, 8);
    if (trailer > size - 72 - length) return;
    ep_json said = ep_json_of((const char *)data + 72 + length, trailer);
    ep_json_text(ep_json_member(said, "version"), version, 64);
    ep_json_text(ep_json_item(ep_json_member(said, "target_platform"), 0), target, 64);
}
