/* Native lanes: POSIX threads that run segments for Python without its interpreter lock.
 *
 * A pool has lanes; a lane is one thread with one context per segment, on one core (its group). A request says which
 * segment, where the inputs are and where the outputs go (a table, see ort_rknn_segment_infer). It goes to an idle lane on
 * the core with least to do, else it waits in its core's queue when it is pinned, in the queue all lanes take from when
 * not. Requests that ended become events, taken many at a time. The table, and what it names, stays the caller's: it must
 * live until the request's last event.
 *
 * Every function may be called from any thread. The ones marked SHORT wait for nothing but a brief lock that no thread
 * holds while it waits for anything else: Python calls them without giving its lock away (ctypes.PyDLL), the others
 * after giving it away (ctypes.CDLL).
 */
#ifndef ORT_RKNN_LANES_H
#define ORT_RKNN_LANES_H

#include "segment.h"

enum { ORT_RKNN_LANES_ABI = 7 };

enum {
    ORT_RKNN_ANY = -1,    /* any core */
    ORT_RKNN_QUEUED = -1, /* accepted, waits */
    ORT_RKNN_BUSY = -2,   /* no idle lane */
    ORT_RKNN_CLOSED = -3,
    ORT_RKNN_BAD = -4 /* no such lane or segment, or no memory */
};

enum { ORT_RKNN_FRONT = 1, ORT_RKNN_IF_IDLE = 2 }; /* before all that wait; only if a lane is idle */

enum {
    ORT_RKNN_EVENT_DONE = 1,    /* the last event of a request; after a failure its lane is unequipped */
    ORT_RKNN_EVENT_TIMEOUT = 2, /* over the time limit; its lane is lost, the runtime still uses the buffers */
    ORT_RKNN_EVENT_LATE = 3     /* the last event of a request that had timed out */
};

typedef struct {
    uint64_t token;
    int32_t kind, lane;
    ort_rknn_outcome outcome;
} ort_rknn_event;

typedef struct ort_rknn_pool ort_rknn_pool;

typedef struct { /* for a look without a call */
    uint64_t mark;    /* changes whenever a waiting request was taken, and by a touch */
    uint32_t waiting; /* requests without a lane */
    uint32_t busy;    /* lanes at work */
} ort_rknn_pool_view;

int ort_rknn_lanes_abi(void);

/* time_limit: nanoseconds a request may run, 0 for ever. */
ort_rknn_pool *ort_rknn_pool_new(uint32_t n_groups, int64_t time_limit);
const ort_rknn_pool_view *ort_rknn_pool_look(ort_rknn_pool *pool);

/* A new lane, unequipped: its number, CLOSED or BAD. */
int ort_rknn_pool_add(ort_rknn_pool *pool, uint32_t group);
/* SHORT. Give an unequipped lane its contexts, and its first request unless `table` is NULL. Segments stay the
 * caller's, who must not free them while the lane has them. 0, CLOSED or BAD. */
int ort_rknn_pool_equip(ort_rknn_pool *pool, int lane, uint32_t n_segments, ort_rknn_segment *const *segments,
                        uint32_t segment, void **table, uint64_t token);

/* SHORT. Take a lane's contexts back: 1 when it has none now, 0 when it has none once it is through. */
int ort_rknn_pool_unequip(ort_rknn_pool *pool, int lane);
/* SHORT. Whether a lane that was busy then has none now, and no failure of it is still to be told. */
int ort_rknn_pool_shed(ort_rknn_pool *pool, int lane);

/* SHORT. The lane that took it, QUEUED, BUSY (only IF_IDLE), CLOSED or BAD. */
int ort_rknn_pool_submit(ort_rknn_pool *pool, int group, uint32_t segment, void **table, uint64_t token, int flags);
/* Run in the caller's thread on an idle lane: the lane, BUSY, CLOSED or BAD. After a failure the lane is unequipped; else
 * the lane counts it, for ort_rknn_pool_lent. */
int ort_rknn_pool_run(ort_rknn_pool *pool, int group, uint32_t segment, void **table, ort_rknn_outcome *outcome);
/* SHORT. How many requests callers ran themselves on a lane, and their nanoseconds inside the device. */
uint64_t ort_rknn_pool_lent(ort_rknn_pool *pool, int lane, int64_t *taken);
/* SHORT. Take a waiting request back; it has no event then. 1, or 0 when it does not wait. */
int ort_rknn_pool_cancel(ort_rknn_pool *pool, uint64_t token);

/* SHORT. How many requests wait for this core alone. */
int ort_rknn_pool_pinned(ort_rknn_pool *pool, uint32_t group);
/* SHORT. Whether a request waits. */
int ort_rknn_pool_waits(ort_rknn_pool *pool, uint64_t token);

/* Up to `most` events; waits `timeout` nanoseconds (negative: for ever; 0: SHORT) for the first, or for a wake. */
int ort_rknn_pool_take(ort_rknn_pool *pool, ort_rknn_event *events, int most, int64_t timeout);
void ort_rknn_pool_wake(ort_rknn_pool *pool); /* SHORT: ends one take, even one that only begins */

/* SHORT. Something changed that may have made room: wake the first waiter, or all. */
void ort_rknn_pool_touch(ort_rknn_pool *pool, int everyone);
/* Wait until the mark is not `mark`; first come first served, `first` before all others. */
void ort_rknn_pool_wait(ort_rknn_pool *pool, uint64_t mark, int64_t timeout, int first);

/* SHORT. No more work for a core; what is pinned to it may go anywhere. */
void ort_rknn_pool_close_group(ort_rknn_pool *pool, uint32_t group);
/* SHORT. The lane takes nothing more and ends when it is through. */
int ort_rknn_pool_retire(ort_rknn_pool *pool, int lane);
/* Wait until nobody runs on a retired lane any more, so that its segments may be freed: 0 when it took too long. */
int ort_rknn_pool_wait_ended(ort_rknn_pool *pool, int lane, int64_t timeout);
/* SHORT. Whether the lane has work. */
int ort_rknn_pool_works(ort_rknn_pool *pool, int lane);
/* SHORT. All lanes end, those at work when they are through. Nothing waits any more, or it never runs. */
void ort_rknn_pool_stop(ort_rknn_pool *pool);
/* After a stop: the number of lanes still at work after `timeout`. */
int ort_rknn_pool_join(ort_rknn_pool *pool, int64_t timeout);
/* After a join that returned 0, with nobody inside any function of the pool. */
void ort_rknn_pool_free(ort_rknn_pool *pool);

#endif
