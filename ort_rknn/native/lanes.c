#include "lanes.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "queue.h"

typedef enum {
    BARE,     /* has no contexts: takes nothing until it is equipped */
    IDLE,
    ASSIGNED, /* has a request that its thread has not begun */
    RUNNING,
    BORROWED, /* a caller's own thread runs on it */
    ENDED
} lane_state;

typedef struct {
    ort_rknn_pool *pool;
    int number, retired, joined;
    uint32_t group, n_segments;
    lane_state state;
    ort_rknn_segment **segments;
    request *current;
    pthread_t thread;
    pthread_cond_t work;
} lane;

typedef struct waiter {
    struct waiter *next;
    int woken;
    pthread_cond_t cond;
} waiter;

struct ort_rknn_pool {
    ort_rknn_pool_view view;
    pthread_mutex_t lock;
    pthread_cond_t event, ended;
    uint32_t max_io, n_groups;
    int64_t time_limit;
    int stopping, wakes, takers, n_lanes, lane_room;
    lane **lanes;
    request *free;
    queue shared, done, *pinned;
    int *closed;
    waiter *waiters;
};

int ort_rknn_lanes_abi(void) { return ORT_RKNN_LANES_ABI; }

/* view is read by others without the lock */
#define SHOW(field, value) __atomic_store_n(&p->view.field, (value), __ATOMIC_RELEASE)

static int cond_begin(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int bad = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return bad;
}

static int64_t deadline_of(int64_t timeout) { return timeout < 0 ? INT64_MAX : ort_rknn_now() + timeout; }

/* Whether the deadline (INT64_MAX: none) passed first. */
static int wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline) {
    if (deadline == INT64_MAX) return pthread_cond_wait(cond, lock) == ETIMEDOUT;
    struct timespec t = {deadline / 1000000000, deadline % 1000000000};
    return pthread_cond_timedwait(cond, lock, &t) == ETIMEDOUT;
}

ort_rknn_pool *ort_rknn_pool_new(uint32_t max_io, uint32_t n_groups, int64_t time_limit) {
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
    p->max_io = max_io;
    p->n_groups = n_groups;
    p->time_limit = time_limit;
    queue_clear(&p->shared);
    queue_clear(&p->done);
    for (uint32_t i = 0; i < n_groups; i++) queue_clear(&p->pinned[i]);
    pthread_mutex_init(&p->lock, NULL);
    cond_begin(&p->event);
    cond_begin(&p->ended);
    return p;
}

const ort_rknn_pool_view *ort_rknn_pool_look(ort_rknn_pool *p) { return &p->view; }

/* -- everything static from here on is called with the lock held */

static void touch(ort_rknn_pool *p, int everyone) {
    SHOW(mark, p->view.mark + 1);
    for (waiter *w; (w = p->waiters);) {
        p->waiters = w->next;
        w->woken = 1;
        pthread_cond_signal(&w->cond);
        if (!everyone) break;
    }
}

static void set_state(lane *l, lane_state state) {
    ort_rknn_pool *p = l->pool;
    int before = l->state >= ASSIGNED && l->state <= BORROWED, after = state >= ASSIGNED && state <= BORROWED;
    l->state = state;
    if (before != after) SHOW(busy, p->view.busy + (uint32_t)(after - before));
}

static void give_back(ort_rknn_pool *p, request *r) {
    r->next = p->free;
    p->free = r;
}

static request *new_request(ort_rknn_pool *p, uint32_t segment, void *const *pointers, uint32_t n, uint64_t token) {
    request *r = p->free;
    if (n > p->max_io) return NULL;
    if (r) p->free = r->next;
    else if (!(r = malloc(sizeof *r + p->max_io * sizeof *r->pointers))) return NULL;
    *r = (request){.token = token, .segment = segment};
    memcpy(r->pointers, pointers, n * sizeof *pointers);
    return r;
}

static void finish(ort_rknn_pool *p, lane *l, request *r, int kind) {
    r->event.token = r->token;
    r->event.kind = kind;
    r->event.lane = l->number;
    queue_push(&p->done, r);
    if (p->takers) pthread_cond_signal(&p->event);
}

/* The lane takes what waits, or is idle. */
static void go_on(lane *l) {
    ort_rknn_pool *p = l->pool;
    request *r = NULL;
    if (!l->retired && !p->stopping) {
        r = queue_pop(&p->pinned[l->group]);
        if (!r) r = queue_pop(&p->shared);
    }
    l->current = r;
    set_state(l, r ? ASSIGNED : IDLE);
    if (r) {
        SHOW(waiting, p->view.waiting - 1);
        touch(p, 0);
    }
}

/* After a request: contexts that failed are not used again. */
static void settle(lane *l, int code) {
    l->current = NULL;
    if (code) {
        l->n_segments = 0;
        set_state(l, BARE);
    } else {
        go_on(l);
    }
}

static void run_one(lane *l) { /* gives the lock back meanwhile */
    ort_rknn_pool *p = l->pool;
    request *r = l->current;
    ort_rknn_segment *segment = l->segments[r->segment];
    ort_rknn_outcome outcome;
    set_state(l, RUNNING);
    if (p->time_limit) {
        r->deadline = ort_rknn_now() + p->time_limit;
        if (p->takers) pthread_cond_signal(&p->event); /* a waiting taker watches the new deadline */
    }
    pthread_mutex_unlock(&p->lock);
    ort_rknn_segment_run(segment, (const void *const *)r->pointers, r->pointers + ort_rknn_segment_inputs(segment), &outcome);
    pthread_mutex_lock(&p->lock);
    r->event.outcome = outcome;
    finish(p, l, r, r->timed_out ? ORT_RKNN_EVENT_LATE : ORT_RKNN_EVENT_DONE);
    settle(l, outcome.code);
}

static void *lane_main(void *argument) {
    lane *l = argument;
    ort_rknn_pool *p = l->pool;
    char name[32];
    snprintf(name, sizeof name, "rknn-lane-%d", l->number);
    prctl(PR_SET_NAME, name, 0, 0, 0);
    pthread_mutex_lock(&p->lock);
    while (l->state == ASSIGNED || l->state == BORROWED || (!l->retired && !p->stopping)) {
        if (l->state == ASSIGNED) run_one(l);
        else wait_until(&l->work, &p->lock, INT64_MAX);
    }
    set_state(l, ENDED);
    pthread_cond_broadcast(&p->ended);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int busy_lanes(const ort_rknn_pool *p, uint32_t group) {
    int busy = 0;
    for (int i = 0; i < p->n_lanes; i++) {
        const lane *l = p->lanes[i];
        busy += l->group == group && l->state >= ASSIGNED && l->state <= BORROWED;
    }
    return busy;
}

/* An idle lane on the core with least to do. */
static lane *idle_lane(const ort_rknn_pool *p, int group, uint32_t segment) {
    lane *best = NULL;
    int least = 0;
    for (int i = 0; i < p->n_lanes; i++) {
        lane *l = p->lanes[i];
        if (l->state != IDLE || l->retired || segment >= l->n_segments || (group >= 0 && l->group != (uint32_t)group)) continue;
        int busy = busy_lanes(p, l->group);
        if (!best || busy < least) best = l, least = busy;
    }
    return best;
}

static int real_group(const ort_rknn_pool *p, int group) {
    return group < 0 || (uint32_t)group >= p->n_groups || p->closed[group] ? ORT_RKNN_ANY : group;
}

static lane *lane_of(const ort_rknn_pool *p, int number) {
    return number < 0 || number >= p->n_lanes ? NULL : p->lanes[number];
}

/* -- the interface */

int ort_rknn_pool_add(ort_rknn_pool *p, uint32_t group) {
    lane *l = calloc(1, sizeof *l);
    if (!l || group >= p->n_groups || cond_begin(&l->work)) {
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
    if (number >= 0 && pthread_create(&l->thread, NULL, lane_main, l)) number = ORT_RKNN_BAD;
    if (number >= 0) p->lanes[p->n_lanes++] = l;
    pthread_mutex_unlock(&p->lock);
    if (number < 0) {
        pthread_cond_destroy(&l->work);
        free(l);
    }
    return number;
}

int ort_rknn_pool_equip(ort_rknn_pool *p, int number, uint32_t n_segments, ort_rknn_segment *const *segments,
                        uint32_t segment, void *const *pointers, uint32_t n_pointers, uint64_t token) {
    pthread_mutex_lock(&p->lock);
    lane *l = lane_of(p, number);
    int code = !l || l->state != BARE || (pointers && segment >= n_segments) ? ORT_RKNN_BAD
               : p->stopping || l->retired                                   ? ORT_RKNN_CLOSED
                                                                             : 0;
    request *r = NULL;
    ort_rknn_segment **copy = code ? NULL : malloc(n_segments * sizeof *copy + 1);
    if (!code && !copy) code = ORT_RKNN_BAD;
    if (!code && pointers && !(r = new_request(p, segment, pointers, n_pointers, token))) code = ORT_RKNN_BAD;
    if (!code) {
        memcpy(copy, segments, n_segments * sizeof *copy);
        free(l->segments);
        l->segments = copy;
        l->n_segments = n_segments;
        if (r) {
            l->current = r;
            set_state(l, ASSIGNED);
        } else {
            go_on(l);
        }
        pthread_cond_signal(&l->work);
    } else {
        free(copy);
    }
    pthread_mutex_unlock(&p->lock);
    return code;
}

int ort_rknn_pool_submit(ort_rknn_pool *p, int group, uint32_t segment, void *const *pointers, uint32_t n_pointers,
                         uint64_t token, int flags) {
    pthread_mutex_lock(&p->lock);
    group = real_group(p, group);
    lane *l = idle_lane(p, group, segment);
    int code = p->stopping ? ORT_RKNN_CLOSED : l ? l->number : flags & ORT_RKNN_IF_IDLE ? ORT_RKNN_BUSY : ORT_RKNN_QUEUED;
    if (code >= ORT_RKNN_QUEUED) {
        request *r = new_request(p, segment, pointers, n_pointers, token);
        if (!r) {
            code = ORT_RKNN_BAD;
        } else if (l) {
            l->current = r;
            set_state(l, ASSIGNED);
            pthread_cond_signal(&l->work);
        } else {
            (flags & ORT_RKNN_FRONT ? queue_push_front : queue_push)(group < 0 ? &p->shared : &p->pinned[group], r);
            SHOW(waiting, p->view.waiting + 1);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return code;
}

int ort_rknn_pool_run(ort_rknn_pool *p, int group, uint32_t segment, void *const *pointers, ort_rknn_outcome *outcome) {
    pthread_mutex_lock(&p->lock);
    lane *l = p->stopping ? NULL : idle_lane(p, real_group(p, group), segment);
    int code = p->stopping ? ORT_RKNN_CLOSED : ORT_RKNN_BUSY;
    ort_rknn_segment *s = NULL;
    if (l) {
        set_state(l, BORROWED);
        s = l->segments[segment];
    }
    pthread_mutex_unlock(&p->lock);
    if (!l) return code;
    ort_rknn_segment_run(s, (const void *const *)pointers, pointers + ort_rknn_segment_inputs(s), outcome);
    pthread_mutex_lock(&p->lock);
    settle(l, outcome->code);
    if (l->state == ASSIGNED || l->retired || p->stopping) pthread_cond_signal(&l->work);
    code = l->number;
    pthread_mutex_unlock(&p->lock);
    return code;
}

int ort_rknn_pool_cancel(ort_rknn_pool *p, uint64_t token) {
    pthread_mutex_lock(&p->lock);
    request *r = queue_remove(&p->shared, token);
    for (uint32_t i = 0; !r && i < p->n_groups; i++) r = queue_remove(&p->pinned[i], token);
    if (r) {
        SHOW(waiting, p->view.waiting - 1);
        give_back(p, r);
        touch(p, 0);
    }
    pthread_mutex_unlock(&p->lock);
    return r != NULL;
}

/* The nearest deadline; requests that are over theirs become events, and their lanes are lost. */
static int64_t look_at_deadlines(ort_rknn_pool *p, ort_rknn_event *events, int most, int *n) {
    int64_t nearest = INT64_MAX, now = p->time_limit ? ort_rknn_now() : 0;
    for (int i = 0; p->time_limit && i < p->n_lanes; i++) {
        lane *l = p->lanes[i];
        request *r = l->state == RUNNING ? l->current : NULL;
        if (!r || r->timed_out) continue;
        if (r->deadline > now) {
            if (r->deadline < nearest) nearest = r->deadline;
        } else if (*n < most) {
            r->timed_out = l->retired = 1;
            ort_rknn_outcome outcome = {.code = RKNN_ERR_TIMEOUT, .call = ORT_RKNN_CALL_RUN,
                                        .begun = r->deadline - p->time_limit, .done = now};
            events[(*n)++] = (ort_rknn_event){r->token, ORT_RKNN_EVENT_TIMEOUT, i, outcome};
        }
    }
    return nearest;
}

int ort_rknn_pool_take(ort_rknn_pool *p, ort_rknn_event *events, int most, int64_t timeout) {
    int64_t deadline = deadline_of(timeout);
    int n = 0, late = 0;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        int64_t nearest = look_at_deadlines(p, events, most, &n);
        for (request *r; n < most && (r = queue_pop(&p->done));) {
            events[n++] = r->event;
            give_back(p, r);
        }
        if (n || late || timeout == 0 || p->wakes) break;
        p->takers++;
        int over = wait_until(&p->event, &p->lock, nearest < deadline ? nearest : deadline);
        p->takers--;
        late = over && ort_rknn_now() >= deadline;
    }
    if (p->wakes && !n) p->wakes--;
    pthread_mutex_unlock(&p->lock);
    return n;
}

void ort_rknn_pool_wake(ort_rknn_pool *p) {
    pthread_mutex_lock(&p->lock);
    p->wakes++;
    pthread_cond_signal(&p->event);
    pthread_mutex_unlock(&p->lock);
}

void ort_rknn_pool_touch(ort_rknn_pool *p, int everyone) {
    pthread_mutex_lock(&p->lock);
    touch(p, everyone);
    pthread_mutex_unlock(&p->lock);
}

void ort_rknn_pool_wait(ort_rknn_pool *p, uint64_t mark, int64_t timeout, int first) {
    int64_t deadline = deadline_of(timeout);
    waiter me = {.woken = 0}, **at;
    if (cond_begin(&me.cond)) return;
    pthread_mutex_lock(&p->lock);
    if (p->view.mark == mark) {
        for (at = &p->waiters; !first && *at;) at = &(*at)->next;
        me.next = *at;
        *at = &me;
        while (!me.woken && !wait_until(&me.cond, &p->lock, deadline)) {}
        if (!me.woken) {
            for (at = &p->waiters; *at != &me;) at = &(*at)->next;
            *at = me.next;
        }
    }
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&me.cond);
}

void ort_rknn_pool_close_group(ort_rknn_pool *p, uint32_t group) {
    pthread_mutex_lock(&p->lock);
    if (group < p->n_groups) {
        p->closed[group] = 1;
        for (request *r; (r = queue_pop(&p->pinned[group]));) {
            lane *l = idle_lane(p, ORT_RKNN_ANY, r->segment);
            if (l) {
                l->current = r;
                set_state(l, ASSIGNED);
                SHOW(waiting, p->view.waiting - 1);
                touch(p, 0);
                pthread_cond_signal(&l->work);
            } else {
                queue_push(&p->shared, r);
            }
        }
    }
    pthread_mutex_unlock(&p->lock);
}

int ort_rknn_pool_retire(ort_rknn_pool *p, int number) {
    pthread_mutex_lock(&p->lock);
    lane *l = lane_of(p, number);
    if (l) {
        l->retired = 1;
        pthread_cond_signal(&l->work);
    }
    pthread_mutex_unlock(&p->lock);
    return l ? 0 : ORT_RKNN_BAD;
}

int ort_rknn_pool_ended(ort_rknn_pool *p, int number) {
    pthread_mutex_lock(&p->lock);
    lane *l = lane_of(p, number);
    int ended = l && l->state == ENDED;
    pthread_mutex_unlock(&p->lock);
    return ended;
}

void ort_rknn_pool_stop(ort_rknn_pool *p) {
    pthread_mutex_lock(&p->lock);
    p->stopping = 1;
    for (int i = 0; i < p->n_lanes; i++) pthread_cond_signal(&p->lanes[i]->work);
    touch(p, 1);
    pthread_mutex_unlock(&p->lock);
}

int ort_rknn_pool_join(ort_rknn_pool *p, int64_t timeout) {
    int64_t deadline = deadline_of(timeout);
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
                pthread_join(l->thread, NULL);
                pthread_mutex_lock(&p->lock);
            }
        }
        if (!left || late) break;
        late = wait_until(&p->ended, &p->lock, deadline);
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
