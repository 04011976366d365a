/* The calls that open compiled code, for runtimes that differ in what they take. */
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ep.h"

/* By path where there is one: then nobody keeps a copy of the file. What knows only bytes, or only paths, gets them. */
int ep_init(const ep_segment *s, rknn_context *handle) {
    const ep_code *code = &s->code;
    uint32_t flags = s->options->init_flags;
    rknn_init_extend extend = {0};
    int first, again;
    if (code->path) {
        first = again = s->runtime->init(handle, code->path, 0, flags, &extend);
        if (first != RKNN_ERR_FAIL && first != RKNN_ERR_PARAM_INVALID) return first;
        int fd = open(code->path, O_RDONLY | O_CLOEXEC);
        void *data = fd < 0 ? MAP_FAILED : mmap(NULL, code->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        if (fd >= 0) close(fd);
        if (data == MAP_FAILED) return first;
        again = s->runtime->init(handle, data, (uint32_t)code->size, flags, &extend);
        munmap(data, code->size);
    } else {
        first = again =
            s->runtime->init(handle, (char *)code->data + code->offset, (uint32_t)code->size, flags, &extend);
        if (first != RKNN_ERR_FAIL && first != RKNN_ERR_PARAM_INVALID) return first;
        char path[64];
        int fd = (int)syscall(SYS_memfd_create, "rknn", MFD_CLOEXEC); /* glibc has a function for it from 2.27 on */
        size_t done = 0;
        for (ssize_t n = 1; fd >= 0 && n > 0 && done < code->size; done += n > 0 ? (size_t)n : 0)
            n = write(fd, (char *)code->data + code->offset + done, code->size - done);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (fd >= 0 && done == code->size) again = s->runtime->init(handle, path, 0, flags, &extend);
        if (fd >= 0) close(fd);
    }
    return again ? first : 0;
}

/* The two first numbers of a version as one: 2.3.2 -> 2003. */
static unsigned rank_of(const char *version) {
    unsigned major = 0, minor = 0;
    return sscanf(version, "%u.%u", &major, &minor) == 2 ? 1000 * major + minor : 0;
}

int ep_init_failed(const ep_segment *s, int code, ep_failure *f) {
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
