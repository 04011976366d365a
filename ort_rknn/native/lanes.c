#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

/* -- everything static from here on is called with the lock held */

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

static request *new_request(ort_rknn_pool *p, uint32_t segment, void **table, uint64_t token) {
    request *r = p->free;
    if (r) p->free = r->next;
    else if (!(r = malloc(sizeof *r))) return NULL;
    *r = (request){.token = token, .segment = segment, .table = table};
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
        pool_touch(p, 0);
    }
}

/* After a request: contexts that failed are not used again. */
static void settle(lane *l, int code) {
    l->current = NULL;
    if (code || l->unequip) {
        l->n_segments = 0;
        l->unequip = code ? 0 : SHED;
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
    ort_rknn_segment_infer(segment, r->table, &outcome);
    pthread_mutex_lock(&p->lock);
    r->event.outcome = outcome;
    finish(p, l, r, r->timed_out ? ORT_RKNN_EVENT_LATE : ORT_RKNN_EVENT_DONE);
    settle(l, outcome.code);
}

void *pool_lane_main(void *argument) {
    lane *l = argument;
    ort_rknn_pool *p = l->pool;
    char name[32];
    snprintf(name, sizeof name, "rknn-lane-%d", l->number);
    prctl(PR_SET_NAME, name, 0, 0, 0);
    pthread_mutex_lock(&p->lock);
    while (l->state == ASSIGNED || l->state == BORROWED || (!l->retired && !p->stopping)) {
        if (l->state == ASSIGNED) run_one(l);
        else pool_wait_until(&l->work, &p->lock, INT64_MAX);
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

/* -- the interface */

int ort_rknn_pool_equip(ort_rknn_pool *p, int number, uint32_t n_segments, ort_rknn_segment *const *segments,
                        uint32_t segment, void **table, uint64_t token) {
    pthread_mutex_lock(&p->lock);
    lane *l = pool_lane_of(p, number);
    int code = !l || l->state != BARE || (table && segment >= n_segments) ? ORT_RKNN_BAD
               : p->stopping || l->retired                                   ? ORT_RKNN_CLOSED
                                                                             : 0;
    request *r = NULL;
    ort_rknn_segment **copy = code ? NULL : malloc(n_segments * sizeof *copy + 1);
    if (!code && !copy) code = ORT_RKNN_BAD;
    if (!code && table && !(r = new_request(p, segment, table, token))) code = ORT_RKNN_BAD;
    if (!code) {
        memcpy(copy, segments, n_segments * sizeof *copy);
        free(l->segments);
        l->segments = copy;
        l->n_segments = n_segments;
        l->unequip = 0;
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

int ort_rknn_pool_submit(ort_rknn_pool *p, int group, uint32_t segment, void **table, uint64_t token, int flags) {
    pthread_mutex_lock(&p->lock);
    group = real_group(p, group);
    lane *l = idle_lane(p, group, segment);
    int code = p->stopping ? ORT_RKNN_CLOSED : l ? l->number : flags & ORT_RKNN_IF_IDLE ? ORT_RKNN_BUSY : ORT_RKNN_QUEUED;
    if (code >= ORT_RKNN_QUEUED) {
        request *r = new_request(p, segment, table, token);
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

int ort_rknn_pool_run(ort_rknn_pool *p, int group, uint32_t segment, void **table, ort_rknn_outcome *outcome) {
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
    ort_rknn_segment_infer(s, table, outcome);
    pthread_mutex_lock(&p->lock);
    if (!outcome->code) l->lent++, l->lent_ns += outcome->done - outcome->begun;
    settle(l, outcome->code);
    if (l->state == ASSIGNED || l->retired || p->stopping) pthread_cond_signal(&l->work);
    code = l->number;
    pthread_mutex_unlock(&p->lock);
    return code;
}

int ort_rknn_pool_unequip(ort_rknn_pool *p, int number) {
    pthread_mutex_lock(&p->lock);
    lane *l = pool_lane_of(p, number);
    int idle = l && l->state == IDLE;
    if (idle) {
        l->n_segments = 0;
        set_state(l, BARE);
    } else if (l && l->state >= ASSIGNED && l->state <= BORROWED) {
        l->unequip = WANTED;
    }
    pthread_mutex_unlock(&p->lock);
    return idle;
}

int ort_rknn_pool_shed(ort_rknn_pool *p, int number) {
    pthread_mutex_lock(&p->lock);
    lane *l = pool_lane_of(p, number);
    int shed = l && l->state == BARE && l->unequip == SHED;
    pthread_mutex_unlock(&p->lock);
    return shed;
}

int ort_rknn_pool_cancel(ort_rknn_pool *p, uint64_t token) {
    pthread_mutex_lock(&p->lock);
    request *r = queue_remove(&p->shared, token);
    for (uint32_t i = 0; !r && i < p->n_groups; i++) r = queue_remove(&p->pinned[i], token);
    if (r) {
        SHOW(waiting, p->view.waiting - 1);
        give_back(p, r);
        pool_touch(p, 0);
    }
    pthread_mutex_unlock(&p->lock);
    return r != NULL;
}

static int holds(const queue *q, uint64_t token) {
    for (const request *r = q->first; r; r = r->next)
        if (r->token == token) return 1;
    return 0;
}

int ort_rknn_pool_pinned(ort_rknn_pool *p, uint32_t group) {
    int n = 0;
    pthread_mutex_lock(&p->lock);
    if (group < p->n_groups)
        for (const request *r = p->pinned[group].first; r; r = r->next) n++;
    pthread_mutex_unlock(&p->lock);
    return n;
}

int ort_rknn_pool_waits(ort_rknn_pool *p, uint64_t token) {
    pthread_mutex_lock(&p->lock);
    int found = holds(&p->shared, token);
    for (uint32_t i = 0; !found && i < p->n_groups; i++) found = holds(&p->pinned[i], token);
    pthread_mutex_unlock(&p->lock);
    return found;
}

/* The nearest deadline; requests that are over theirs become events, and their lanes are lost. */
static int64_t look_at_deadlines(ort_rknn_pool *p, ort_rknn_event *events, int most, int *n) {
    int64_t nearest = INT64_MAX, now = p->time_limit ? ort_rknn_now() : 0;
    for (int i = 0; p->time_limit && i < p->n_lanes; i++) {
        lane *l = p->lanes[i];
        request *r = l->state == RUNNING ? l->current : NULL;
        if (!r || r->timed_out) continue;
        ort_rknn_gate *gate = ort_rknn_segment_gate(l->segments[r->segment]);
        int64_t waited = gate ? __atomic_load_n(&gate->waited, __ATOMIC_ACQUIRE) : 0; /* the limit is the inference's own */
        int64_t deadline = waited < 0 ? now + p->time_limit : r->deadline + waited;
        if (deadline > now) {
            if (deadline < nearest) nearest = deadline;
        } else if (*n < most) {
            if (gate) gate->forfeit(gate);
            r->timed_out = l->retired = 1;
            ort_rknn_outcome outcome = {.code = RKNN_ERR_TIMEOUT, .call = ORT_RKNN_CALL_RUN,
                                        .begun = deadline - p->time_limit, .done = now};
            events[(*n)++] = (ort_rknn_event){r->token, ORT_RKNN_EVENT_TIMEOUT, i, outcome};
        }
    }
    return nearest;
}

int ort_rknn_pool_take(ort_rknn_pool *p, ort_rknn_event *events, int most, int64_t timeout) {
    int64_t deadline = pool_deadline(timeout);
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
        int over = pool_wait_until(&p->event, &p->lock, nearest < deadline ? nearest : deadline);
        p->takers--;
        if (p->done.first) pool_linger(p);
        late = over && ort_rknn_now() >= deadline;
    }
    if (p->wakes && !n) p->wakes--;
    pthread_mutex_unlock(&p->lock);
    return n;
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
                pool_touch(p, 0);
                pthread_cond_signal(&l->work);
            } else {
                queue_push(&p->shared, r);
            }
        }
    }
    pthread_mutex_unlock(&p->lock);
}
