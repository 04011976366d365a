/* Inferences with a time limit: each context has a thread that calls the runtime, and the caller waits no longer than it said.
 *
 * A call that hangs cannot be taken back. So the thread works on memory of its own, never on the caller's, and a context whose
 * inference took too long is closed by that thread, if it ever comes back.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ep.h"

struct ep_worker {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    ep_context *context;
    ort_rknn_outcome outcome;
    enum { IDLE, WORK, DONE, QUIT } state;
    bool abandoned;
};

static void free_worker(ep_worker *w) {
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static void *work(void *argument) {
    ep_worker *w = argument;
    ep_context *c = w->context;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        /* no limit: a worker waits for work; ep_end_worker wakes it */
        while (w->state != WORK && w->state != QUIT) pthread_cond_wait(&w->changed, &w->lock);
        if (w->state == QUIT) break;
        pthread_mutex_unlock(&w->lock);
        ort_rknn_outcome outcome;
        ort_rknn_segment_run(c->segment, c->ins, c->outs, &outcome);
        pthread_mutex_lock(&w->lock);
        w->outcome = outcome;
        if (w->abandoned) {
            pthread_mutex_unlock(&w->lock);
            pthread_detach(pthread_self());
            c->worker = NULL;
            ep_close_lost(c);
            free_worker(w);
            return NULL;
        }
        w->state = DONE;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static ep_worker *begin(ep_context *c) {
    ep_worker *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&w->lock, NULL);
    w->context = c;
    sigset_t all, before;
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed) return w;
    free_worker(w);
    return NULL;
}

void ep_end_worker(ep_worker *w) {
    pthread_mutex_lock(&w->lock);
    w->state = QUIT;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL); /* no limit: it is idle and was told to end; one that hangs is abandoned, not ended */
    free_worker(w);
}

/* The caller's inputs, and the places of its outputs, exchanged for the context's own. */
static int keep(const ep_segment *s, ep_context *c, void **callers) {
    for (uint32_t i = 0; i < c->n_inputs; i++) {
        const ep_tensor *t = &s->plan.inputs[i];
        size_t size = (size_t)t->elements *
                      (s->plan.given_type[i] >= 0 ? ep_runtime_size(s->plan.given_type[i]) : ep_onnx_size(t->type));
        if (!ep_room(&c->kept_in[i], size)) return -1;
        memcpy(c->kept_in[i], c->ins[i], size);
        c->ins[i] = c->kept_in[i];
    }
    for (uint32_t i = 0; i < c->n_outputs; i++) {
        callers[i] = c->outs[i];
        if (!c->outs[i]) continue;
        if (!ep_room(&c->kept_out[i], s->plan.got[i].size)) return -1;
        c->outs[i] = c->kept_out[i];
    }
    return 0;
}

int ep_run_timed(ep_segment *s, ep_context *c, int64_t timeout_ns, ort_rknn_outcome *outcome) {
    void **callers = calloc(c->n_outputs + 1, sizeof *callers);
    if (!callers || keep(s, c, callers) || (!c->worker && !(c->worker = begin(c)))) {
        free(callers);
        *outcome = (ort_rknn_outcome){.code = RKNN_ERR_MALLOC_FAIL, .call = ORT_RKNN_CALL_NONE};
        return outcome->code;
    }
    ep_worker *w = c->worker;
    int64_t deadline = ort_rknn_now() + timeout_ns;
    struct timespec t = {deadline / 1000000000, deadline % 1000000000};
    int late = 0, code;
    pthread_mutex_lock(&w->lock);
    w->state = WORK;
    pthread_cond_broadcast(&w->changed);
    while (w->state != DONE && !late) late = pthread_cond_timedwait(&w->changed, &w->lock, &t) == ETIMEDOUT;
    if (w->state == DONE) {
        w->state = IDLE;
        *outcome = w->outcome;
        code = outcome->code;
        for (uint32_t i = 0; !code && i < c->n_outputs; i++)
            if (callers[i]) memcpy(callers[i], c->kept_out[i], s->plan.got[i].size);
    } else {
        ep_lose_context(s, c); /* before the thread may close it */
        w->abandoned = true;
        code = EP_TIMED_OUT;
    }
    pthread_mutex_unlock(&w->lock);
    free(callers);
    return code;
}
