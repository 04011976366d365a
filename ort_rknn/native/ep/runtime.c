/* The vendor's runtime library: where it is, its entry points, and its return codes as errors that say what to do. */
#include <ctype.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ep.h"

static const char *const PLACES[] = {"librknnrt.so",
                                     "librknnrt.so.2",
                                     "/usr/lib/librknnrt.so",
                                     "/usr/lib64/librknnrt.so",
                                     "/usr/lib/aarch64-linux-gnu/librknnrt.so",
                                     "/usr/local/lib/librknnrt.so",
                                     "/vendor/lib64/librknnrt.so",
                                     "/system/lib64/librknnrt.so"};
static const char *const ENVIRONMENT[] = {"ORT_RKNN_RUNTIME_LIBRARY", "ZTU_RKNPU2_RUNTIME_LIBRARY"};

static const struct {
    const char *name, *sentence;
} ERRORS[] = {
    {"RKNN_SUCC", ""},
    {"RKNN_ERR_FAIL", "the call failed; the runtime's own log on stderr says more"},
    {"RKNN_ERR_TIMEOUT", "the NPU did not answer in time"},
    {"RKNN_ERR_DEVICE_UNAVAILABLE", "the NPU cannot be used (driver not loaded, or no permission on its device node)"},
    {"RKNN_ERR_MALLOC_FAIL", "no memory left for the NPU"},
    {"RKNN_ERR_PARAM_INVALID", "an argument is not valid"},
    {"RKNN_ERR_MODEL_INVALID", "the runtime does not accept this .rknn (damaged, or made by a newer toolkit)"},
    {"RKNN_ERR_CTX_INVALID", "the context does not exist any more"},
    {"RKNN_ERR_INPUT_INVALID", "an input's size, type or layout is not accepted"},
    {"RKNN_ERR_OUTPUT_INVALID", "an output's size or type is not accepted"},
    {"RKNN_ERR_DEVICE_UNMATCH", "the model and the device do not belong together; update the runtime and the driver"},
    {"RKNN_ERR_INCOMPATILE_PRE_COMPILE_MODEL", "the model is pre-compiled for another driver"},
    {"RKNN_ERR_INCOMPATILE_OPTIMIZATION_LEVEL_VERSION",
     "the model's optimization level does not fit the driver's version"},
    {"RKNN_ERR_TARGET_PLATFORM_UNMATCH", "this is not for this SoC (a model for another one, or a core it lacks)"},
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ep_runtime *opened;

int ep_fail(ep_failure *f, OrtErrorCode code, const char *format, ...) {
    va_list more;
    va_start(more, format);
    vsnprintf(f->text, sizeof f->text, format, more);
    va_end(more);
    return f->code = code;
}

int ep_no_memory(ep_failure *f) { return ep_fail(f, ORT_FAIL, EP_NAME ": no memory left"); }

OrtStatus *ep_status(const ep_ort *ort, const ep_failure *f) {
    return f->code ? ort->api->CreateStatus((OrtErrorCode)f->code, f->text) : NULL;
}

void ep_log(const ep_ort *ort, const OrtLogger *logger, OrtLoggingLevel level, const char *format, ...) {
    char text[1024];
    va_list more;
    va_start(more, format);
    vsnprintf(text, sizeof text, format, more);
    va_end(more);
    OrtStatus *status = logger ? ort->api->Logger_LogMessage(logger, level, text, "ort_rknn", 0, EP_NAME) : NULL;
    if (status) ort->api->ReleaseStatus(status);
}

int ep_runtime_failed(ep_failure *f, const char *call, int code, const char *format, ...) {
    char more[900];
    va_list rest;
    va_start(rest, format);
    vsnprintf(more, sizeof more, format, rest);
    va_end(rest);
    size_t at = code <= 0 ? (size_t)-(long)code : SIZE_MAX;
    if (at < sizeof ERRORS / sizeof *ERRORS)
        return ep_fail(f, ORT_EP_FAIL, "%s failed: %s (%d): %s. %s", call, ERRORS[at].name, code, ERRORS[at].sentence,
                       more);
    return ep_fail(f, ORT_EP_FAIL, "%s failed: error %d: the vendor does not document this code. %s", call, code, more);
}

const char *ep_named_runtime(void) {
    for (size_t i = 0; i < sizeof ENVIRONMENT / sizeof *ENVIRONMENT; i++) {
        const char *path = getenv(ENVIRONMENT[i]);
        if (path && *path) return path;
    }
    return NULL;
}

/* The version written into the file, known even when no model can be opened. */
static void find_version(const void *symbol, char *room, size_t size) {
    static const char MARK[] = "librknnrt version: ";
    Dl_info info;
    struct stat st;
    *room = 0;
    if (!dladdr(symbol, &info) || !info.dli_fname) return;
    int fd = open(info.dli_fname, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    const char *data =
        fstat(fd, &st) || st.st_size < 64 ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED) return;
    const char *end = data + st.st_size;
    for (const char *at = data; (at = memmem(at, (size_t)(end - at), MARK, sizeof MARK - 1));) {
        char text[32] = "";
        unsigned a, b, c;
        at += sizeof MARK - 1;
        memcpy(text, at, (size_t)(end - at) < sizeof text - 1 ? (size_t)(end - at) : sizeof text - 1);
        if (sscanf(text, "%u.%u.%u", &a, &b, &c) == 3) {
            snprintf(room, size, "%u.%u.%u", a, b, c);
            break;
        }
    }
    munmap((void *)(uintptr_t)data, (size_t)st.st_size);
}

static ep_runtime *load(const char *path, char *why, size_t size) {
    /* It does not survive being unloaded. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        snprintf(why, size, "%s cannot be opened: %s", path, dlerror());
        return NULL;
    }
    ep_runtime *r = calloc(1, sizeof *r);
    if (!r) {
        snprintf(why, size, "no memory left");
        return NULL;
    }
    snprintf(r->path, sizeof r->path, "%s", path);
    const struct {
        const char *name;
        void *to;
        int optional;
    } calls[] = {{"rknn_init", &r->init, 0},
                 {"rknn_dup_context", &r->dup_context, 0},
                 {"rknn_destroy", &r->destroy, 0},
                 {"rknn_query", &r->query, 0},
                 {"rknn_set_core_mask", &r->set_core_mask, 0},
                 {"rknn_inputs_set", &r->calls.inputs_set, 0},
                 {"rknn_run", &r->calls.run, 0},
                 {"rknn_outputs_get", &r->calls.outputs_get, 0},
                 {"rknn_outputs_release", &r->calls.outputs_release, 0},
                 {"rknn_set_input_shapes", &r->set_input_shapes, 1}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *found = dlsym(library, calls[i].name);
        if (!found && !calls[i].optional) {
            snprintf(why, size, "%s has no %s: it is no librknnrt, or one before version 1.4", path, calls[i].name);
            free(r);
            return NULL;
        }
        memcpy(calls[i].to, &found, sizeof found);
    }
    find_version(dlsym(library, "rknn_init"), r->version, sizeof r->version);
    return r;
}

static ep_runtime *known(const char *path) {
    ep_runtime *r = opened;
    while (r && strcmp(r->path, path)) r = r->next;
    return r;
}

ep_runtime *ep_open_runtime(const char *path, ep_failure *f) {
    char tried[1100] = "";
    if (!path || !*path) path = ep_named_runtime();
    /* A name that was given is the only one: a wrong one must not pass unnoticed. */
    const char *const *names = path ? &path : PLACES;
    size_t count = path ? 1 : sizeof PLACES / sizeof *PLACES;
    ep_runtime *r = NULL;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < count && !r; i++) {
        char why[400];
        if ((r = known(names[i]))) break;
        if ((r = load(names[i], why, sizeof why))) {
            r->next = opened;
            opened = r;
        } else {
            size_t n = strlen(tried);
            snprintf(tried + n, sizeof tried - n, "%s%s", n ? "; " : "", why);
        }
    }
    pthread_mutex_unlock(&lock);
    if (!r)
        ep_fail(f, ORT_EP_FAIL,
                "the NPU's runtime library librknnrt.so was not found; install it "
                "(github.com/airockchip/rknn-toolkit2, folder "
                "rknpu2/runtime) or name it with ORT_RKNN_RUNTIME_LIBRARY or the option runtime_library. Tried: %s",
                tried);
    return r;
}
