/* Provider options, by the names and meanings they have in the ort_rknn package. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ep.h"

/* onnxruntime puts this, all in small letters, before the names of a provider's options. */
#define PREFIX "ep.rknnexecutionprovider."
#define CONTEXT_FILE "ep.context_file_path"
#define WEIGHTS_FOLDER "session.model_external_initializers_file_folder_path"
#define NAMES                                                                                                          \
    "target, runtime_library, priority, sram, share_sram, init_flags, schedule, tp_mode, threads_per_core, "           \
    "performance_hint, run_timeout_ms, disable_dup_context, half_inputs"

enum { PRIOR_MEDIUM = 0x1, PRIOR_LOW = 0x2, ENABLE_SRAM = 0x800, SHARE_SRAM = 0x1000 };

const char *ep_option_names(void) { return NAMES; }

static int bad(ep_failure *f, const char *name, const char *expected, const char *value) {
    return ep_fail(f, ORT_INVALID_ARGUMENT, EP_NAME " option '%s' must be %s, not '%s'", name, expected, value);
}

static int flag(ep_failure *f, const char *name, const char *value, bool *result) {
    static const char *const yes[] = {"1", "true", "on", "yes"}, *const no[] = {"0", "false", "off", "no"};
    for (size_t i = 0; i < 4; i++) {
        if (!strcasecmp(value, yes[i])) return *result = true, 0;
        if (!strcasecmp(value, no[i])) return *result = false, 0;
    }
    return bad(f, name, "true or false", value);
}

static int whole(ep_failure *f, const char *name, const char *value, int base, int64_t least, int64_t most,
                 int64_t *result) {
    char *end, expected[80];
    errno = 0;
    long long number = strtoll(value, &end, base);
    while (*end == ' ') end++;
    if (end == value || *end || errno || number < least || number > most) {
        snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)least, (long long)most);
        return bad(f, name, expected, value);
    }
    *result = number;
    return 0;
}

static int schedule(ep_failure *f, const char *value, ep_options *o) {
    static const char EDGES[] = "[](){} ";
    const char *at = value + strspn(value, EDGES);
    for (o->n_schedule = 0;; at++) {
        char *end;
        long core = strtol(at, &end, 10);
        if (end == at || core < 0 || core >= EP_MAX_CORES || o->n_schedule == EP_MAX_SCHEDULE) break;
        o->schedule[o->n_schedule++] = (int)core;
        at = end + strspn(end, " ");
        if (*at == ',') continue;
        if (!at[strspn(at, EDGES)]) return 0;
        break;
    }
    return bad(f, "schedule", "core numbers with commas between, such as 0,1,2", value);
}

static int tp_mode(ep_failure *f, const char *value, ep_options *o) {
    static const struct {
        const char *name;
        int mask;
    } modes[] = {{"auto", 0}, {"all", 0xFFFF}, {"0", 1}, {"1", 2}, {"2", 4}, {"0,1", 3}, {"0,1,2", 7}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcasecmp(value, modes[i].name)) return o->tp_mode = modes[i].mask, 0;
    return bad(f, "tp_mode", "auto, all, 0, 1, 2, '0,1' or '0,1,2'", value);
}

static int one(ep_failure *f, const char *name, const char *value, ep_options *o) {
    bool yes = false;
    int64_t number;
    if (!strcmp(name, "target")) {
        if (!(o->target = ep_find_target(value)))
            return ep_fail(f, ORT_INVALID_ARGUMENT, "unknown target '%s'. Known targets: %s", value, ep_targets());
    } else if (!strcmp(name, "runtime_library")) {
        free(o->runtime_library);
        if (!(o->runtime_library = strdup(value))) return ep_no_memory(f);
    } else if (!strcmp(name, "priority")) {
        int first = !strcasecmp(value, "normal") || !strcasecmp(value, "high"); /* the vendor's own default */
        uint32_t bits = first ? 0 : !strcasecmp(value, "medium") ? PRIOR_MEDIUM : PRIOR_LOW;
        if (bits == PRIOR_LOW && strcasecmp(value, "low")) return bad(f, name, "normal, high, medium or low", value);
        o->init_flags |= bits;
    } else if (!strcmp(name, "sram")) {
        if (flag(f, name, value, &yes)) return f->code;
        if (yes) o->init_flags |= ENABLE_SRAM;
    } else if (!strcmp(name, "share_sram")) {
        if (flag(f, name, value, &yes)) return f->code;
        if (yes) o->init_flags |= ENABLE_SRAM | SHARE_SRAM;
    } else if (!strcmp(name, "init_flags")) {
        if (whole(f, name, value, 0, 0, UINT32_MAX, &number)) return f->code;
        o->init_flags |= (uint32_t)number;
    } else if (!strcmp(name, "schedule")) {
        return schedule(f, value, o);
    } else if (!strcmp(name, "tp_mode")) {
        return tp_mode(f, value, o);
    } else if (!strcmp(name, "threads_per_core")) {
        if (whole(f, name, value, 10, 1, 64, &number)) return f->code;
        o->threads_per_core = (int)number;
    } else if (!strcmp(name, "performance_hint")) {
        if (!strcasecmp(value, "none")) o->hint = EP_HINT_NONE;
        else if (!strcasecmp(value, "latency")) o->hint = EP_HINT_LATENCY;
        else if (!strcasecmp(value, "throughput")) o->hint = EP_HINT_THROUGHPUT;
        else return bad(f, name, "none, latency or throughput", value);
    } else if (!strcmp(name, "run_timeout_ms")) {
        return whole(f, name, value, 10, 0, INT64_MAX / 2000000, &o->run_timeout_ms);
    } else if (!strcmp(name, "disable_dup_context")) {
        return flag(f, name, value, &o->disable_dup_context);
    } else if (!strcmp(name, "half_inputs")) {
        return flag(f, name, value, &o->half_inputs);
    } else {
        return ep_fail(f, ORT_INVALID_ARGUMENT,
                       "unknown option '%s' of the plugin " EP_NAME ". Known options: " NAMES
                       ". Others of the ort_rknn package belong to its own sessions (import ort_rknn)",
                       name);
    }
    return 0;
}

static char *folder_of(const char *file) {
    const char *slash = strrchr(file, '/');
    return slash ? strndup(file, slash == file ? 1 : (size_t)(slash - file)) : strdup(".");
}

int ep_read_options(const ep_ort *ort, const OrtSessionOptions *session, ep_options *o, ep_failure *f) {
    OrtKeyValuePairs *pairs = NULL;
    const char *const *keys, *const *values, *said = getenv("ORT_RKNN_TARGET");
    size_t count = 0;
    memset(o, 0, sizeof *o);
    o->tp_mode = -1;
    o->half_inputs = true;
    OrtStatus *status = ort->api->GetSessionOptionsConfigEntries(session, &pairs);
    if (status) {
        ep_fail(f, ORT_FAIL, "%s", ort->api->GetErrorMessage(status));
        ort->api->ReleaseStatus(status);
        return f->code;
    }
    if (said && *said) one(f, "target", said, o);
    ort->api->GetKeyValuePairs(pairs, &keys, &values, &count);
    for (size_t i = 0; !f->code && i < count; i++) {
        if (!strncasecmp(keys[i], PREFIX, sizeof PREFIX - 1)) {
            const char *value = values[i] + strspn(values[i], " ");
            if (*value) one(f, keys[i] + sizeof PREFIX - 1, value, o); /* the empty string stands for the default */
        } else if (!strcmp(keys[i], WEIGHTS_FOLDER) && *values[i] && !o->folder) {
            if (!(o->folder = strdup(values[i]))) ep_no_memory(f);
        } else if (!strcmp(keys[i], "ep.context_enable")) {
            o->writes_context = !strcmp(values[i], "1");
        } else if (!strcmp(keys[i], CONTEXT_FILE) && *values[i]) {
            free(o->folder);
            if (!(o->folder = folder_of(values[i]))) ep_no_memory(f);
        }
    }
    ort->api->ReleaseKeyValuePairs(pairs);
    if (!f->code && o->n_schedule && o->tp_mode >= 0)
        ep_fail(f, ORT_INVALID_ARGUMENT, "schedule and tp_mode exclude each other: give one of them");
    if (!f->code && o->hint != EP_HINT_NONE && (o->n_schedule || o->tp_mode >= 0))
        ep_fail(f, ORT_INVALID_ARGUMENT,
                "performance_hint chooses the cores itself: give it without schedule and tp_mode");
    if (f->code) ep_free_options(o);
    return f->code;
}

void ep_free_options(ep_options *o) {
    free(o->runtime_library);
    free(o->folder);
    o->runtime_library = o->folder = NULL;
}
