#include "arbiter.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared_tokens.h"

enum { TICK = 100000000 }; /* nanoseconds after which who waits looks again: limits change with time */

enum { SHORT, LONG, VERY_LONG, LENGTHS }; /* inferences of a gate, by their mean */

typedef enum { OUT, WAITING, HELD, LENT } pass_state; /* LENT: held for too long, its tokens are others' now */

typedef struct pass {
    ort_rknn_gate gate;
    ort_rknn_arbiter *arbiter;
    struct pass *next, *before; /* in the row of those that wait, or of the holders; both oldest first */
    int class, weight, length, behind; /* behind: let go while each core had a job already */
    uint32_t party;
    pass_state state;
    int64_t since, mean;
    pthread_cond_t go;
} pass;

typedef struct {
    pass *first, *last;
} row;

typedef struct { /* one session */
    int gates, used;
} party;

struct ort_rknn_arbiter {
    pthread_mutex_t lock;
    int cores, reserved, used, held[ORT_RKNN_CLASSES], lower, of_length[LENGTHS], set;
    int64_t used_at[ORT_RKNN_CLASSES], looked_at;
    row waiting[ORT_RKNN_CLASSES], holders;
    party *parties;
    uint32_t party_room;
    int n_parties; /* that have gates */
    unsigned short seen[SHARED_COUNT];
};

static void push(row *r, pass *p) {
    p->next = NULL;
    p->before = r->last;
    if (r->last) r->last->next = p;
    else r->first = p;
    r->last = p;
}

static void drop(row *r, pass *p) {
    if (p->before) p->before->next = p->next;
    else r->first = p->next;
    if (p->next) p->next->before = p->before;
    else r->last = p->before;
}

/* -- everything static from here on is called with the lock held */

static int most_lower(const ort_rknn_arbiter *a) {
    int most = a->cores - a->reserved;
    return a->reserved <= 0 ? 2 * a->cores : most > 1 ? most : 1;
}

static int is_mixed(const ort_rknn_arbiter *a, const pass *p, int64_t now) {
    for (int class = 0; class < ORT_RKNN_CLASSES; class++) {
        if (class == p->class) continue;
        if (a->held[class] || a->waiting[class].first || (a->used_at[class] && now - a->used_at[class] < ORT_RKNN_RECENT)) return 1;
    }
    return 0;
}

static int longest(const ort_rknn_arbiter *a, const pass *p) {
    int length = a->of_length[VERY_LONG] ? VERY_LONG : a->of_length[LONG] ? LONG : SHORT;
    return length > p->length ? length : p->length;
}

typedef enum { FITS, RESERVED, FULL } verdict;

static verdict fits(const ort_rknn_arbiter *a, const pass *p, int64_t now) {
    int length = longest(a, p), most = length < VERY_LONG || a->n_parties < 2 ? 2 * a->cores : a->cores;
    if (is_mixed(a, p, now)) most = a->cores + (length == SHORT);
    if (p->class != ORT_RKNN_HIGH && a->lower && a->lower + p->weight > most_lower(a)) return RESERVED;
    return !a->used || a->used + p->weight <= most ? FITS : FULL;
}

static void grant(ort_rknn_arbiter *a, pass *p, int64_t now) {
    p->state = HELD;
    p->since = now;
    p->behind = a->used >= a->cores;
    a->used += p->weight;
    a->parties[p->party].used += p->weight;
    a->lower += p->class != ORT_RKNN_HIGH ? p->weight : 0;
    a->of_length[p->length]++;
    a->held[p->class]++;
    push(&a->holders, p);
}

static void take_back(ort_rknn_arbiter *a, pass *p, pass_state state) {
    if (p->state != HELD) return;
    drop(&a->holders, p);
    a->used -= p->weight;
    a->parties[p->party].used -= p->weight;
    a->lower -= p->class != ORT_RKNN_HIGH ? p->weight : 0;
    a->of_length[p->length]--;
    a->held[p->class]--;
    if (a->set >= 0) shared_give_back(a->set, p->weight);
    p->state = state;
}

static void lend_overdue(ort_rknn_arbiter *a, int64_t now) {
    while (a->holders.first && now - a->holders.first->since >= ORT_RKNN_LEASE) take_back(a, a->holders.first, LENT);
}

static int risen(const pass *p, int64_t now) {
    int64_t class = p->class - (now - p->since) / ORT_RKNN_AGE;
    return class > ORT_RKNN_HIGH ? (int)class : ORT_RKNN_HIGH;
}

/* Whether p goes before q: by class, then by what its session has already, then by time. */
static int goes_before(const ort_rknn_arbiter *a, const pass *p, const pass *q, int64_t now) {
    int by = risen(p, now) - risen(q, now);
    if (!by) by = a->parties[p->party].used - a->parties[q->party].used;
    return by ? by < 0 : p->since < q->since;
}

/* Lets go who may, best first. */
static void serve(ort_rknn_arbiter *a, int64_t now) {
    for (;;) {
        pass *best = NULL;
        for (int class = 0; class < ORT_RKNN_CLASSES; class++)
            for (pass *p = a->waiting[class].first; p; p = p->next)
                if (fits(a, p, now) != RESERVED && (!best || goes_before(a, p, best, now))) best = p;
        if (!best || fits(a, best, now) != FITS) return;
        drop(&a->waiting[best->class], best);
        grant(a, best, now);
        pthread_cond_signal(&best->go);
    }
}

static int anybody_waits(const ort_rknn_arbiter *a) {
    return a->waiting[ORT_RKNN_HIGH].first || a->waiting[ORT_RKNN_NORMAL].first || a->waiting[ORT_RKNN_LOW].first;
}

static void wait_for_turn(ort_rknn_arbiter *a, pass *p, int64_t now) {
    p->state = WAITING;
    p->since = now;
    __atomic_store_n(&p->gate.waited, -1, __ATOMIC_RELEASE);
    push(&a->waiting[p->class], p);
    for (;;) {
        lend_overdue(a, now);
        serve(a, now);
        if (p->state != WAITING) break;
        int64_t until = now + TICK;
        struct timespec t = {until / 1000000000, until % 1000000000};
        pthread_cond_timedwait(&p->go, &a->lock, &t);
        now = ort_rknn_now();
    }
}

/* Tokens of all processes. What they look like is asked for every TICK only: it costs a call of the system. */
static int must_stay(ort_rknn_arbiter *a, const pass *p, int64_t now) {
    if (!a->looked_at || now - a->looked_at > TICK) {
        a->looked_at = now;
        shared_look(a->set, a->seen);
    }
    int mixed = a->seen[SHARED_HIGH] && a->seen[SHARED_LOWER];
    int reserved = p->class == ORT_RKNN_HIGH ? 0 : a->seen[SHARED_RESERVED];
    int left = !mixed ? 0 : p->length || p->class == ORT_RKNN_HIGH ? a->cores : a->cores - 1;
    if (reserved && left < a->cores) left = a->cores;
    left += reserved < a->cores ? reserved : a->cores - 1;
    return left + p->weight <= 2 * a->cores ? left : 2 * a->cores - p->weight;
}

static int64_t enter_shared(ort_rknn_arbiter *a, pass *p) {
    int64_t begun = ort_rknn_now(), now = begun;
    pthread_mutex_lock(&a->lock);
    int left = must_stay(a, p, now), got = 0;
    p->state = WAITING;
    __atomic_store_n(&p->gate.waited, -1, __ATOMIC_RELEASE);
    shared_wait_begins(a->set, p->class);
    while (!got && now - begun < ORT_RKNN_LEASE) {
        pthread_mutex_unlock(&a->lock);
        int aged = (int)((now - begun) / ORT_RKNN_AGE);
        got = !shared_take(a->set, p->class, p->weight, left, aged, TICK);
        pthread_mutex_lock(&a->lock);
        now = ort_rknn_now();
        if (!got) lend_overdue(a, now), left = must_stay(a, p, now);
    }
    shared_wait_ends(a->set, p->class);
    if (got) grant(a, p, now);
    else p->state = LENT; /* a process hangs with all tokens: on without one */
    pthread_mutex_unlock(&a->lock);
    return now - begun;
}

static int64_t enter_local(ort_rknn_arbiter *a, pass *p) {
    int64_t now = ort_rknn_now();
    pthread_mutex_lock(&a->lock);
    wait_for_turn(a, p, now);
    a->used_at[p->class] = p->since;
    pthread_mutex_unlock(&a->lock);
    return p->since - now;
}

/* -- the interface */

int ort_rknn_gate_try(ort_rknn_gate *gate) {
    pass *p = (pass *)gate;
    ort_rknn_arbiter *a = p->arbiter;
    int64_t now = ort_rknn_now();
    __atomic_store_n(&gate->waited, 0, __ATOMIC_RELEASE);
    pthread_mutex_lock(&a->lock);
    int got = a->set >= 0 ? !shared_take(a->set, p->class, p->weight, must_stay(a, p, now), 0, 0)
                          : !anybody_waits(a) && fits(a, p, now) == FITS;
    if (got) {
        grant(a, p, now);
        a->used_at[p->class] = now;
    }
    pthread_mutex_unlock(&a->lock);
    return got;
}

int64_t ort_rknn_gate_enter(ort_rknn_gate *gate) {
    pass *p = (pass *)gate;
    if (ort_rknn_gate_try(gate)) return 0;
    int64_t waited = p->arbiter->set >= 0 ? enter_shared(p->arbiter, p) : enter_local(p->arbiter, p);
    __atomic_store_n(&gate->waited, waited, __ATOMIC_RELEASE);
    return waited;
}

void ort_rknn_gate_leave(ort_rknn_gate *gate, int64_t took) {
    pass *p = (pass *)gate;
    ort_rknn_arbiter *a = p->arbiter;
    pthread_mutex_lock(&a->lock);
    if (p->behind) took /= 2; /* its core did another one first */
    take_back(a, p, OUT);
    p->state = OUT;
    p->mean += (took - p->mean) / 8;
    p->length = p->mean < ORT_RKNN_SHORT ? SHORT : p->mean < ORT_RKNN_VERY_LONG ? LONG : VERY_LONG;
    if (a->set < 0) {
        int64_t now = ort_rknn_now();
        a->used_at[p->class] = now;
        if (anybody_waits(a)) serve(a, now);
    }
    pthread_mutex_unlock(&a->lock);
}

void ort_rknn_gate_forfeit(ort_rknn_gate *gate) {
    pass *p = (pass *)gate;
    ort_rknn_arbiter *a = p->arbiter;
    pthread_mutex_lock(&a->lock);
    take_back(a, p, LENT);
    if (a->set < 0) serve(a, ort_rknn_now());
    pthread_mutex_unlock(&a->lock);
}

void ort_rknn_gate_free(ort_rknn_gate *gate) {
    if (!gate) return;
    pass *p = (pass *)gate;
    ort_rknn_gate_forfeit(gate);
    pthread_mutex_lock(&p->arbiter->lock);
    p->arbiter->n_parties -= !--p->arbiter->parties[p->party].gates;
    pthread_mutex_unlock(&p->arbiter->lock);
    if (p->arbiter->set >= 0) shared_add(p->arbiter->set, p->class == ORT_RKNN_HIGH ? SHARED_HIGH : SHARED_LOWER, -1);
    pthread_cond_destroy(&p->go);
    free(p);
}

/* Room for a session, with the lock held. */
static int enrol(ort_rknn_arbiter *a, uint32_t number) {
    if (number >= a->party_room) {
        uint32_t room = number + 16;
        party *grown = realloc(a->parties, room * sizeof *grown);
        if (!grown) return -1;
        memset(grown + a->party_room, 0, (room - a->party_room) * sizeof *grown);
        a->parties = grown;
        a->party_room = room;
    }
    a->n_parties += !a->parties[number].gates++;
    return 0;
}

ort_rknn_gate *ort_rknn_arbiter_gate(ort_rknn_arbiter *a, uint32_t number, int class, uint32_t weight) {
    pass *p = calloc(1, sizeof *p);
    pthread_condattr_t attr;
    if (!p || class < 0 || class >= ORT_RKNN_CLASSES || pthread_condattr_init(&attr)) {
        free(p);
        return NULL;
    }
    pthread_mutex_lock(&a->lock);
    int bad = enrol(a, number);
    pthread_mutex_unlock(&a->lock);
    if (bad) {
        pthread_condattr_destroy(&attr);
        free(p);
        return NULL;
    }
    p->party = number;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->go, &attr);
    pthread_condattr_destroy(&attr);
    int most = a->cores;
    p->gate = (ort_rknn_gate){ort_rknn_gate_enter, ort_rknn_gate_leave, ort_rknn_gate_forfeit, ort_rknn_gate_free, 0};
    p->arbiter = a;
    p->class = class;
    p->weight = weight < 1 ? 1 : weight > (uint32_t)most ? most : (int)weight;
    p->mean = ORT_RKNN_SHORT; /* unknown: taken for long */
    p->length = LONG;
    if (a->set >= 0) shared_add(a->set, class == ORT_RKNN_HIGH ? SHARED_HIGH : SHARED_LOWER, 1);
    return &p->gate;
}

ort_rknn_arbiter *ort_rknn_arbiter_new(uint32_t cores, int key) {
    ort_rknn_arbiter *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->cores = cores ? (int)cores : 1;
    a->set = key ? shared_open(key, (uint32_t)a->cores) : -1;
    if (key && a->set < 0) {
        free(a);
        return NULL;
    }
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

void ort_rknn_arbiter_reserve(ort_rknn_arbiter *a, int more) {
    pthread_mutex_lock(&a->lock);
    a->reserved += more;
    if (a->set >= 0) shared_add(a->set, SHARED_RESERVED, more);
    else serve(a, ort_rknn_now());
    pthread_mutex_unlock(&a->lock);
}

int ort_rknn_arbiter_taken(ort_rknn_arbiter *a) {
    unsigned short values[SHARED_COUNT];
    if (a->set >= 0) return shared_look(a->set, values) ? -1 : 2 * a->cores - values[SHARED_FREE];
    pthread_mutex_lock(&a->lock);
    int used = a->used;
    pthread_mutex_unlock(&a->lock);
    return used;
}
