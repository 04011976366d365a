/* Requests in a row. */
#ifndef ORT_RKNN_QUEUE_H
#define ORT_RKNN_QUEUE_H

#include "lanes.h"

typedef struct request {
    struct request *next;
    uint64_t token;
    uint32_t segment;
    int timed_out;
    int64_t deadline;
    ort_rknn_event event;
    void **table; /* the caller's */
} request;

typedef struct {
    request *first, **last;
} queue;

static inline void queue_clear(queue *q) { q->first = NULL, q->last = &q->first; }

static inline void queue_push(queue *q, request *r) {
    r->next = NULL;
    *q->last = r;
    q->last = &r->next;
}

static inline void queue_push_front(queue *q, request *r) {
    if (!(r->next = q->first)) q->last = &r->next;
    q->first = r;
}

static inline request *queue_pop(queue *q) {
    request *r = q->first;
    if (r && !(q->first = r->next)) q->last = &q->first;
    return r;
}

static inline request *queue_remove(queue *q, uint64_t token) {
    for (request **at = &q->first; *at; at = &(*at)->next) {
        request *r = *at;
        if (r->token != token) continue;
        if (!(*at = r->next)) q->last = at;
        return r;
    }
    return NULL;
}

#endif
