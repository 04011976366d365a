/* Inner structures of the native lanes, shared by lanes.c (work) and pool.c (birth, death, waiting). */
#ifndef ORT_RKNN_POOL_H
#define ORT_RKNN_POOL_H

#include <pthread.h>
#include <stdint.h>

#include "lanes.h"
#include "queue.h"

typedef enum {
    BARE,     /* has no contexts: takes nothing until it is equipped */
    IDLE,
    ASSIGNED, /* has a request that its thread has not begun */
    RUNNING,
    BORROWED, /* a caller's own thread runs on it */
    ENDED
} lane_state;

enum { WANTED = 1, SHED };

typedef struct {
    ort_rknn_pool *pool;
    int number, retired, joined, unequip; /* WANTED, then SHED, if its last request ended well */
    uint32_t group, n_segments;
    lane_state state;
    ort_rknn_segment **segments;
    request *current;
    uint64_t lent; /* requests that callers ran themselves, and their nanoseconds */
    int64_t lent_ns;
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
    uint32_t n_groups;
    int64_t time_limit;
    int stopping, wakes, takers, n_lanes, lane_room;
    lane **lanes;
    request *free;
    queue shared, done, *pinned;
    int *closed;
    waiter *waiters;
};

/* view is read by others without the lock */
#define SHOW(field, value) __atomic_store_n(&p->view.field, (value), __ATOMIC_RELEASE)

int64_t pool_deadline(int64_t timeout); /* negative: never, INT64_MAX */
/* Whether the deadline passed first. */
int pool_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline);
int pool_cond_begin(pthread_cond_t *cond);
/* Something changed; called with the lock. */
void pool_touch(ort_rknn_pool *pool, int everyone);
void pool_linger(ort_rknn_pool *pool);
void *pool_lane_main(void *lane);
lane *pool_lane_of(const ort_rknn_pool *pool, int number);

#endif
