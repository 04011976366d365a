#include "pool.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

int ort_rknn_lanes_abi(void) { return ORT_RKNN_LANES_ABI; }

int pool_cond_begin(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int bad = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return bad;
}

int64_t pool_deadline(int64_t timeout) { return timeout < 0 ? INT64_MAX : ort_rknn_now() + timeout; }

/* Whether the deadline (INT64_MAX: none) passed first. */
int pool_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline) {
    /* no limit: only for callers who asked for none; stop() and every end of a request wake them */
    if (deadline == INT64_MAX) return pthread_cond_wait(cond, lock) == ETIMEDOUT;
    struct timespec t = {deadline / 1000000000, deadline % 1000000000};
    return pthread_cond_timedwait(cond, lock, &t) == ETIMEDOUT;
}

ort_rknn_pool *ort_rknn_pool_new(uint32_t n_groups, int64_t time_limit) {
    ort_rknn_pool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->pinned = calloc(n_groups + 1, sizeof *p->pinned);
    p->closed = calloc(n_groups + 1, sizeof *p->closed);
    if (!p->pinned || !p->closed) {
        free(p->pinned);
        free(p->closed);
        free(p);
        return NULL;
    }
    p->n_groups = n_groups;
    p->time_limit = time_limit;
    queue_clear(&p->shared);
    queue_clear(&p->done);
    for (uint32_t i = 0; i < n_groups; i++) queue_clear(&p->pinned[i]);
    pthread_mutex_init(&p->lock, NULL);
    pool_cond_begin(&p->event);
    pool_cond_begin(&p->ended);
    return p;
}

const ort_rknn_pool_view *ort_rknn_pool_look(ort_rknn_pool *p) { return &p->view; }

void pool_touch(ort_rknn_pool *p, int everyone) {
    SHOW(mark, p->view.mark + 1);
    for (waiter *w; (w = p->waiters);) {
        p->waiters = w->next;
        w->woken = 1;
        pthread_cond_signal(&w->cond);
        if (!everyone) break;
    }
}

lane *pool_lane_of(const ort_rknn_pool *p, int number) {
    return number < 0 || number >= p->n_lanes ? NULL : p->lanes[number];
}

int ort_rknn_pool_add(ort_rknn_pool *p, uint32_t group) {
    lane *l = calloc(1, sizeof *l);
    if (!l || group >= p->n_groups || pool_cond_begin(&l->work)) {
        free(l);
        return ORT_RKNN_BAD;
    }
    l->pool = p;
    l->group = group;
    pthread_mutex_lock(&p->lock);
    if (p->n_lanes == p->lane_room) {
        int room = p->n_lanes + 8;
        lane **grown = realloc(p->lanes, (size_t)room * sizeof *grown);
        if (grown) p->lanes = grown, p->lane_room = room;
    }
    int number = p->stopping ? ORT_RKNN_CLOSED : p->n_lanes == p->lane_room ? ORT_RKNN_BAD : p->n_lanes;
    l->number = number;
    sigset_t all, before;
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (number >= 0 && pthread_create(&l->thread, NULL, pool_lane_main, l)) number = ORT_RKNN_BAD;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (number >= 0) p->lanes[p->n_lanes++] = l;
    pthread_mutex_unlock(&p->lock);
    if (number < 0) {
        pthread_cond_destroy(&l->work);
        free(l);
    }
    return number;
}

void ort_rknn_pool_wake(ort_rknn_pool *p) {
    pthread_mutex_lock(&p->lock);
    p->wakes++;
    pthread_cond_signal(&p->event);
    pthread_mutex_unlock(&p->lock);
}

void ort_rknn_pool_touch(ort_rknn_pool *p, int everyone) {
    pthread_mutex_lock(&p->lock);
    pool_touch(p, everyone);
    pthread_mutex_unlock(&p->lock);
}

/* Called with the lock, by a thread about to need the interpreter's. While the queue is deep nobody is in a hurry, and one
 * turn for many requests is cheaper than a turn for each: stay until the queue is half as long, or some time has passed. */
void pool_linger(ort_rknn_pool *p) {
    enum { DEEP = 16, STEPS = 5 };
    static const struct timespec step = {0, 200000};
    uint32_t half = p->view.waiting / 2;
    for (int i = 0; i < STEPS && p->view.waiting >= DEEP && p->view.waiting > half && !p->stopping; i++) {
        pthread_mutex_unlock(&p->lock);
        nanosleep(&step, NULL);
        pthread_mutex_lock(&p->lock);
    }
}

void ort_rknn_pool_wait(ort_rknn_pool *p, uint64_t mark, int64_t timeout, int first) {
    int64_t deadline = pool_deadline(timeout);
    waiter me = {.woken = 0}, **at;
    if (pool_cond_begin(&me.cond)) return;
    pthread_mutex_lock(&p->lock);
    if (p->view.mark == mark) {
        for (at = &p->waiters; !first && *at;) at = &(*at)->next;
        me.next = *at;
        *at = &me;
        while (!me.woken && !pool_wait_until(&me.cond, &p->lock, deadline)) {}
        if (!me.woken) {
            for (at = &p->waiters; *at != &me;) at = &(*at)->next;
            *at = me.next;
        }
        pool_linger(p);
    }
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&me.cond);
}

int ort_rknn_pool_retire(ort_rknn_pool *p, int number) {
    pthread_mutex_lock(&p->lock);
    lane *l = pool_lane_of(p, number);
    if (l) {
        l->retired = 1;
        pthread_cond_signal(&l->work);
    }
    pthread_mutex_unlock(&p->lock);
    return l ? 0 : ORT_RKNN_BAD;
}

int ort_rknn_pool_wait_ended(ort_rknn_pool *p, int number, int64_t timeout) {
    int64_t deadline = pool_deadline(timeout);
    pthread_mutex_lock(&p->lock);
    lane *l = pool_lane_of(p, number);
    while (l && l->state != ENDED && timeout && !pool_wait_until(&p->ended, &p->lock, deadline)) {}
    int ended = !l || l->state == ENDED;
    pthread_mutex_unlock(&p->lock);
    return ended;
}

int ort_rknn_pool_works(ort_rknn_pool *p, int number) {
    pthread_mutex_lock(&p->lock);
    lane *l = pool_lane_of(p, number);
    int works = l && l->state >= ASSIGNED && l->state <= BORROWED;
    pthread_mutex_unlock(&p->lock);
    return works;
}

uint64_t ort_rknn_pool_lent(ort_rknn_pool *p, int number, int64_t *taken) {
    pthread_mutex_lock(&p->lock);
    const lane *l = pool_lane_of(p, number);
    uint64_t lent = l ? l->lent : 0;
    *taken = l ? l->lent_ns : 0;
    pthread_mutex_unlock(&p->lock);
    return lent;
}

void ort_rknn_pool_stop(ort_rknn_pool *p) {
    pthread_mutex_lock(&p->lock);
    p->stopping = 1;
    for (int i = 0; i < p->n_lanes; i++) pthread_cond_signal(&p->lanes[i]->work);
    pool_touch(p, 1);
    pthread_mutex_unlock(&p->lock);
}

int ort_rknn_pool_join(ort_rknn_pool *p, int64_t timeout) {
    int64_t deadline = pool_deadline(timeout);
    int left, late = 0;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        left = 0;
        for (int i = 0; i < p->n_lanes; i++) {
            lane *l = p->lanes[i];
            if (l->state != ENDED) {
                left++;
            } else if (!l->joined) { /* its thread is past its last use of the lock, or about to be */
                l->joined = 1;
                pthread_mutex_unlock(&p->lock);
                pthread_join(l->thread, NULL); /* no limit: it has ended but for its last instructions */
                pthread_mutex_lock(&p->lock);
            }
        }
        if (!left || late) break;
        late = pool_wait_until(&p->ended, &p->lock, deadline);
    }
    pthread_mutex_unlock(&p->lock);
    return left;
}

static void free_all(request *r) {
    for (request *next; r; r = next) {
        next = r->next;
        free(r);
    }
}

void ort_rknn_pool_free(ort_rknn_pool *p) {
    for (int i = 0; i < p->n_lanes; i++) {
        pthread_cond_destroy(&p->lanes[i]->work);
        free(p->lanes[i]->segments);
        free(p->lanes[i]);
    }
    for (uint32_t i = 0; i < p->n_groups; i++) free_all(p->pinned[i].first);
    free_all(p->shared.first);
    free_all(p->done.first);
    free_all(p->free);
    pthread_cond_destroy(&p->event);
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
    free(p->lanes);
    free(p->pinned);
    free(p->closed);
    free(p);
}
