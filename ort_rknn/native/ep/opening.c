/* The calls that open compiled code, for runtimes that differ in what they take, and for those that hang in them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ep.h"

/* As devices/time_limit.py: guesses, rknn_init took 0.15 s at most where it was seen. */
enum { OPEN_SECONDS = 30, BYTES_A_SECOND = 10000000 };

static int64_t open_seconds(size_t size) { return OPEN_SECONDS + (int64_t)(size / BYTES_A_SECOND); }

/* One opening call. It cannot be interrupted, so a thread makes it, and closes what it brings after everybody has left. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const ep_runtime *runtime;
    char *model; /* a path or the code; NULL: a duplicate of `handle` */
    uint32_t size, flags;
    rknn_context handle;
    void (*back)(const ep_runtime *, void *); /* called with `what` when the call comes back to nobody; or NULL */
    void *what;
    int code;
    bool done, left;
} errand;

static void free_errand(errand *e) {
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static void *open_it(void *argument) {
    errand *e = argument;
    rknn_init_extend extend = {0};
    rknn_context root = e->handle, handle = 0;
    int code = e->model ? e->runtime->init(&handle, e->model, e->size, e->flags, &extend)
                        : e->runtime->dup_context(&root, &handle);
    pthread_mutex_lock(&e->lock);
    e->code = code;
    e->handle = handle;
    e->done = true;
    bool left = e->left;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    if (left) {
        if (!code) e->runtime->destroy(handle);
        if (e->back) e->back(e->runtime, e->what);
        free_errand(e);
    }
    return NULL;
}

/* Gives the runtime's code, or EP_TIMED_OUT: then the model's memory must stay for good, for the runtime may read it yet. */
static int open_within(errand what, size_t size, rknn_context *handle) {
    errand *e = malloc(sizeof *e);
    if (!e) return RKNN_ERR_MALLOC_FAIL;
    *e = what;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&e->lock, NULL);
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, open_it, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) open_it(e); /* no thread is to be had: better without a limit than not at all */
    int64_t deadline = ort_rknn_now() + open_seconds(size) * 1000000000;
    struct timespec t = {deadline / 1000000000, deadline % 1000000000};
    int late = 0;
    pthread_mutex_lock(&e->lock);
    while (!e->done && !late) late = pthread_cond_timedwait(&e->changed, &e->lock, &t) == ETIMEDOUT;
    e->left = !e->done;
    bool left = e->left;
    pthread_mutex_unlock(&e->lock);
    if (left) {
        pthread_detach(thread);
        return EP_TIMED_OUT;
    }
    if (!failed) pthread_join(thread, NULL); /* no limit: it has said that it is done */
    int code = e->code;
    if (!code) *handle = e->handle;
    free_errand(e);
    return code;
}

int ep_duplicate(const ep_segment *s, rknn_context root, rknn_context *handle,
                 void (*back)(const ep_runtime *, void *), void *what) {
    return open_within((errand){.runtime = s->runtime, .handle = root, .back = back, .what = what}, s->code.size, handle);
}

static int init_by_path(const ep_segment *s, const char *path, rknn_context *handle) {
    char *own = strdup(path);
    if (!own) return RKNN_ERR_MALLOC_FAIL;
    errand e = {.runtime = s->runtime, .model = own, .flags = s->options->init_flags};
    int code = open_within(e, s->code.size, handle);
    if (code != EP_TIMED_OUT) free(own);
    return code;
}

static int init_by_data(const ep_segment *s, void *data, rknn_context *handle) {
    uint32_t size = (uint32_t)s->code.size;
    errand e = {.runtime = s->runtime, .model = data, .size = size, .flags = s->options->init_flags};
    return open_within(e, size, handle);
}

/* By path where there is one: then nobody keeps a copy of the file. What knows only bytes, or only paths, gets them. */
int ep_init(ep_segment *s, rknn_context *handle) {
    ep_code *code = &s->code;
    int first, again;
    if (code->path) {
        first = again = init_by_path(s, code->path, handle);
        if (first != RKNN_ERR_FAIL && first != RKNN_ERR_PARAM_INVALID) return first;
        int fd = open(code->path, O_RDONLY | O_CLOEXEC);
        void *data = fd < 0 ? MAP_FAILED : mmap(NULL, code->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        if (fd >= 0) close(fd);
        if (data == MAP_FAILED) return first;
        again = init_by_data(s, data, handle);
        if (again != EP_TIMED_OUT) munmap(data, code->size);
    } else {
        first = again = init_by_data(s, (char *)code->data + code->offset, handle);
        if (first == EP_TIMED_OUT) code->data = NULL; /* the runtime has it */
        if (first != RKNN_ERR_FAIL && first != RKNN_ERR_PARAM_INVALID) return first;
        char path[64];
        int fd = (int)syscall(SYS_memfd_create, "rknn", MFD_CLOEXEC); /* glibc has a function for it from 2.27 on */
        size_t done = 0;
        for (ssize_t n = 1; fd >= 0 && n > 0 && done < code->size; done += n > 0 ? (size_t)n : 0)
            n = write(fd, (char *)code->data + code->offset + done, code->size - done);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (fd >= 0 && done == code->size) again = init_by_path(s, path, handle);
        if (fd >= 0 && again != EP_TIMED_OUT) close(fd);
    }
    return again == EP_TIMED_OUT ? again : again ? first : 0;
}

/* The two first numbers of a version as one: 2.3.2 -> 2003. */
static unsigned rank_of(const char *version) {
    unsigned major = 0, minor = 0;
    return sscanf(version, "%u.%u", &major, &minor) == 2 ? 1000 * major + minor : 0;
}

int ep_init_failed(const ep_segment *s, int code, ep_failure *f) {
    if (code == EP_TIMED_OUT)
        return ep_fail(f, ORT_EP_FAIL,
                       "rknn_init did not come back within %lld s: segment %.200s. The NPU or its driver hangs: a restart "
                       "of the board is the only cure known",
                       (long long)open_seconds(s->code.size), s->code.name);
    const char *made = s->code.toolkit, *has = s->runtime->version;
    char advice[200];
    if (rank_of(has) && rank_of(made) && rank_of(has) < rank_of(made))
        snprintf(advice, sizeof advice, ": it is older than the toolkit. Install librknnrt %.40s or newer", made);
    else
        snprintf(advice, sizeof advice,
                 ". 'Invalid RKNN model version' in the log above means that librknnrt is older than the toolkit");
    return ep_runtime_failed(
        f, "rknn_init", code, "Segment %.200s was made by toolkit %.40s for %s; the runtime %.200s is version %s%s",
        s->code.name, *made ? made : "of an unknown version", *s->code.target ? s->code.target : "an unknown SoC",
        s->runtime->path, *has ? has : "unknown", advice);
}

static int try_halves(ep_segment *s, rknn_context handle) {
    ep_plan *p = &s->plan;
    rknn_input *given = calloc(p->n_inputs + 1, sizeof *given);
    int code = given ? 0 : RKNN_ERR_MALLOC_FAIL;
    for (uint32_t i = 0; !code && i < p->n_inputs; i++) {
        const ort_rknn_input_form *form = &p->given[i];
        given[i] = (rknn_input){.index = form->index,
                                .size = form->size,
                                .type = (rknn_tensor_type)form->type,
                                .fmt = (rknn_tensor_format)form->fmt};
        if (!(given[i].buf = calloc(form->size + 1, 1))) code = RKNN_ERR_MALLOC_FAIL;
    }
    if (!code) code = s->runtime->calls.inputs_set(handle, p->n_inputs, given);
    for (uint32_t i = 0; given && i < p->n_inputs; i++) free(given[i].buf);
    free(given);
    return code;
}

/* Whether the runtime takes float16 for float32 is asked of the first context that has such an input. */
int ep_first_plan(ep_segment *s, rknn_context handle, ep_failure *f) {
    bool halves = s->options->half_inputs && ort_rknn_halves() && atomic_load(&s->runtime->halves) >= 0;
    if (ep_make_plan(s->runtime, handle, &s->plan, halves, f)) return f->code;
    if (!s->plan.halves || atomic_load(&s->runtime->halves)) return 0;
    int code = try_halves(s, handle);
    atomic_store(&s->runtime->halves, code ? -1 : 1);
    if (!code) return 0;
    ep_log(s->ort, s->logger, ORT_INFO, "the runtime refuses float16 inputs (%d): it gets float32", code);
    return ep_make_plan(s->runtime, handle, &s->plan, false, f);
}
