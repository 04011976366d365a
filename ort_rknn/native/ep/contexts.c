/* The contexts of a segment: a pool that grows while inferences come at the same time, weights shared.
 *
 * Contexts nobody pinned leave the core to the driver, which takes the one with the shortest queue of all processes.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ep.h"

static const int64_t HOLD_NS =
    2000000000; /* as the device of the package: until weights are loaded once more. A guess */

/* Contexts on the weights of one rknn_init. The vendor does not say whether the first may go before its duplicates. */
struct ep_family {
    rknn_context root;
    ort_rknn_segment *guard; /* what runs on root itself; NULL: nothing any more */
    int users, lost;
};

typedef struct {
    uint32_t mask;
    int open, most;
    ep_context *free;
} group;

struct ep_pool {
    pthread_mutex_t lock, opening; /* opening: held while a context is made; taken before lock */
    pthread_cond_t given_back;
    group groups[EP_MAX_CORES + 1];
    int n_groups, masks; /* masks: 0 not tried yet, 1 the runtime takes core masks, -1 it does not */
    unsigned next;       /* place in the schedule */
    int warned;
    ep_family *family;
};

static pthread_mutex_t families = PTHREAD_MUTEX_INITIALIZER; /* held while users are counted */
static pthread_mutex_t holding =
    PTHREAD_MUTEX_INITIALIZER;  /* held while a context is kept from running, or closes itself */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_int forks;

static void count_fork(void) { atomic_fetch_add(&forks, 1); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }
int ep_forked(void) {
    pthread_once(&once, watch_forks);
    return atomic_load(&forks);
}

void *ep_room(void **room, size_t size) {
    if (!*room) *room = malloc(size ? size : 1);
    return *room;
}

static void leave(const ep_runtime *r, ep_family *family) {
    pthread_mutex_lock(&families);
    int last = --family->users == 0;
    pthread_mutex_unlock(&families);
    if (!last) return;
    r->destroy(family->root);
    free(family);
}

static void leave_late(const ep_runtime *r, void *family) { leave(r, family); }

static void free_rooms(void **rooms, uint32_t count) {
    for (uint32_t i = 0; rooms && i < count; i++) free(rooms[i]);
    free(rooms);
}

void ep_close_context(ep_context *c) {
    if (!c) return;
    if (c->worker) ep_end_worker(c->worker);
    if (c->family) {
        pthread_mutex_lock(&families);
        if (c->family->guard == c->segment) c->family->guard = NULL;
        pthread_mutex_unlock(&families);
        if (c->handle != c->family->root) c->runtime->destroy(c->handle);
        leave(c->runtime, c->family);
    }
    ort_rknn_segment_free(c->segment);
    free_rooms(c->converted, c->n_inputs);
    free_rooms(c->kept_in, c->n_inputs);
    free_rooms(c->raw, c->n_outputs);
    free_rooms(c->kept_out, c->n_outputs);
    free(c->ins);
    free(c->outs);
    free(c);
}

/* A handle on the weights that are loaded already; 0: there is none to be had. Called with `opening` held. */
static rknn_context duplicate(ep_segment *s) {
    ep_family *family = s->pool->family;
    rknn_context root, handle = 0;
    if (!family || s->options->disable_dup_context) return 0;
    root = family->root;
    pthread_mutex_lock(&holding);
    pthread_mutex_lock(&families);
    ort_rknn_segment *guard = family->guard;
    int lost = family->lost;
    pthread_mutex_unlock(&families);
    if (lost) {
        pthread_mutex_unlock(&holding);
        return 0;
    }
    int held = !guard || ort_rknn_segment_hold(guard, HOLD_NS);
    int code = held ? ep_duplicate(s, root, &handle, leave_late, family) : 0;
    if (guard && held) ort_rknn_segment_let_go(guard);
    if (code == EP_TIMED_OUT) { /* a call is in there yet: until it is back nobody duplicates it or closes it */
        pthread_mutex_lock(&families);
        family->lost = 1;
        family->users++;
        pthread_mutex_unlock(&families);
    }
    pthread_mutex_unlock(&holding);
    if (!held) return 0;
    if (code && !s->pool->warned++)
        ep_log(s->ort, s->logger, ORT_WARNING,
               "the weights of segment %s are loaded once more: rknn_dup_context gives %d", s->code.name, code);
    return code ? 0 : handle;
}

static int set_mask(ep_segment *s, rknn_context handle, uint32_t *mask, ep_failure *f) {
    struct ep_pool *p = s->pool;
    if (!*mask || p->masks < 0) return *mask = 0;
    int code = s->runtime->set_core_mask(handle, *mask);
    if (code && p->masks > 0) return ep_runtime_failed(f, "rknn_set_core_mask", code, "Core mask %#x", *mask);
    p->masks = code ? -1 : 1;
    if (code) {
        ep_log(s->ort, s->logger, ORT_WARNING,
               "the runtime takes no core masks (%d for %#x): the driver chooses the cores", code, *mask);
        *mask = 0;
    }
    return 0;
}

/* Makes one more context. Called with `opening` held. */
static ep_context *open_context(ep_segment *s, int number, bool first, ep_failure *f) {
    struct ep_pool *p = s->pool;
    rknn_context handle = duplicate(s);
    ep_family *family = handle ? p->family : NULL;
    if (!handle) {
        int code = s->code.path || s->code.data ? ep_init(s, &handle) : RKNN_ERR_FAIL;
        if (code && code != EP_TIMED_OUT && !s->code.path && !s->code.data)
            return ep_fail(f, ORT_EP_FAIL,
                           "segment %s: the NPU failed and its weights cannot be loaded again, for they were inside "
                           "the model: make a new session, or convert with --external",
                           s->code.name),
                   NULL;
        if (code) return ep_init_failed(s, code, f), NULL;
        if (!(family = calloc(1, sizeof *family))) {
            s->runtime->destroy(handle);
            return ep_no_memory(f), NULL;
        }
        family->root = handle;
        family->users = 1; /* the pool, until it has another one */
        if (p->family) leave(s->runtime, p->family);
        p->family = family;
    }
    uint32_t mask = p->groups[number].mask, n_in = s->plan.n_inputs, n_out = s->plan.n_outputs;
    ep_context *c = calloc(1, sizeof *c);
    if (c) {
        c->runtime = s->runtime;
        c->handle = handle;
        c->group = number;
        c->n_inputs = n_in;
        c->n_outputs = n_out;
        c->family = family;
        pthread_mutex_lock(&families);
        family->users++;
        pthread_mutex_unlock(&families);
        c->converted = calloc(n_in + 1, sizeof *c->converted);
        c->kept_in = calloc(n_in + 1, sizeof *c->kept_in);
        c->raw = calloc(n_out + 1, sizeof *c->raw);
        c->kept_out = calloc(n_out + 1, sizeof *c->kept_out);
        c->ins = calloc(n_in + 1, sizeof *c->ins);
        c->outs = calloc(n_out + 1, sizeof *c->outs);
    } else if (handle != family->root) {
        s->runtime->destroy(handle);
    }
    if (!c || !c->converted || !c->kept_in || !c->raw || !c->kept_out || !c->ins || !c->outs) {
        ep_no_memory(f);
    } else if (!set_mask(s, handle, &mask, f) && (!first || !ep_first_plan(s, handle, f))) {
        c->mask = mask;
        c->segment = ort_rknn_segment_new(&s->runtime->calls, handle, n_in, s->plan.given, n_out, s->plan.got);
        if (!c->segment) ep_no_memory(f);
    }
    if (f->code) {
        ep_close_context(c);
        return NULL;
    }
    if (handle == family->root) {
        pthread_mutex_lock(&families);
        family->guard = c->segment;
        pthread_mutex_unlock(&families);
    }
    return c;
}

/* Which contexts there may be, by the options. */
static int plan_groups(ep_segment *s, ep_failure *f) {
    const ep_options *o = s->options;
    struct ep_pool *p = s->pool;
    int each = o->threads_per_core ? o->threads_per_core : 2; /* measured: one transfers while the other computes */
    uint32_t all = (1u << s->cores) - 1, mask = o->tp_mode < 0 ? 0 : o->tp_mode == 0xFFFF ? all : (uint32_t)o->tp_mode;
    for (int i = 0; i < o->n_schedule; i++)
        if (o->schedule[i] >= (int)s->cores) mask |= 1u << o->schedule[i];
    if (mask & ~all) {
        int core = 0;
        while (!((mask & ~all) >> core & 1)) core++;
        return ep_fail(f, ORT_INVALID_ARGUMENT, "core %d does not exist: this NPU has %u core(s)", core, s->cores);
    }
    if (o->n_schedule) {
        p->n_groups = (int)s->cores;
        for (uint32_t core = 0; core < s->cores; core++)
            p->groups[core] = (group){.mask = s->cores == 1 ? 0 : 1u << core, .most = o->threads_per_core ? each : 1};
        return 0;
    }
    p->n_groups = 1;
    int most = o->hint == EP_HINT_LATENCY ? 1
               : o->tp_mode > 0           ? (o->threads_per_core ? each : 1)
                                          : each * (int)s->cores;
    p->groups[0] = (group){.mask = s->cores == 1 ? 0 : mask, .most = most};
    return 0;
}

int ep_open_segment(ep_segment *s, ep_failure *f) {
    struct ep_pool *p = s->pool = calloc(1, sizeof *p);
    if (!p) return ep_no_memory(f);
    ep_forked();
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->given_back, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->opening, NULL);
    ep_context *c =
        plan_groups(s, f) ? NULL : open_context(s, s->options->n_schedule ? s->options->schedule[0] : 0, true, f);
    if (c) {
        p->groups[c->group].open = 1;
        p->groups[c->group].free = c;
    } else {
        ep_close_segment(s);
        return f->code;
    }
    /* What was inside the model was copied by the runtime; it is kept only where a hanging context may have to be replaced. */
    if (s->code.data && !s->options->run_timeout_ms && !s->options->disable_dup_context) {
        free(s->code.data);
        s->code.data = NULL;
    }
    return 0;
}

void ep_close_segment(ep_segment *s) {
    struct ep_pool *p = s->pool;
    if (!p) return;
    for (int i = 0; i < p->n_groups; i++)
        for (ep_context *c = p->groups[i].free, *next; c; c = next) {
            next = c->next;
            ep_close_context(c);
        }
    if (p->family) leave(s->runtime, p->family);
    pthread_cond_destroy(&p->given_back);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->opening);
    free(p);
    s->pool = NULL;
}

static ep_context *pop(group *g) {
    ep_context *c = g->free;
    if (c) g->free = c->next;
    return c;
}

ep_context *ep_take_context(ep_segment *s, ep_failure *f) {
    struct ep_pool *p = s->pool;
    pthread_mutex_lock(&p->lock);
    int number = s->options->n_schedule ? s->options->schedule[p->next++ % (unsigned)s->options->n_schedule] : 0;
    group *g = &p->groups[number];
    ep_context *c;
    bool refused = false; /* another one cannot be had now: this call waits for one that is there */
    while (!(c = pop(g))) {
        if (g->open >= g->most || (refused && g->open)) {
            /* no limit: each context is given back, or is lost after run_timeout_ms, which wakes this too */
            pthread_cond_wait(&p->given_back, &p->lock);
            continue;
        }
        g->open++; /* room for the one to be made */
        pthread_mutex_unlock(&p->lock);
        pthread_mutex_lock(&p->opening);
        *f = (ep_failure){.code = 0};
        c = open_context(s, number, false, f);
        pthread_mutex_unlock(&p->opening);
        pthread_mutex_lock(&p->lock);
        if (c) break;
        g->open--;
        pthread_cond_broadcast(&p->given_back);
        if (!g->open) break; /* nobody will give one back */
        if (!p->warned++)
            ep_log(s->ort, s->logger, ORT_WARNING, "segment %s goes on with %d context(s): %s", s->code.name, g->open,
                   f->text);
        refused = true;
    }
    pthread_mutex_unlock(&p->lock);
    if (c) f->code = 0;
    return c;
}

void ep_give_context(ep_segment *s, ep_context *c) {
    group *g = &s->pool->groups[c->group];
    pthread_mutex_lock(&s->pool->lock);
    c->next = g->free;
    g->free = c;
    pthread_cond_broadcast(&s->pool->given_back);
    pthread_mutex_unlock(&s->pool->lock);
}

static void forget(ep_segment *s, const ep_context *c) {
    pthread_mutex_lock(&s->pool->lock);
    s->pool->groups[c->group].open--;
    pthread_cond_broadcast(&s->pool->given_back);
    pthread_mutex_unlock(&s->pool->lock);
}

void ep_drop_context(ep_segment *s, ep_context *c) {
    forget(s, c);
    pthread_mutex_lock(&s->pool->opening); /* nobody duplicates it now */
    ep_close_context(c);
    pthread_mutex_unlock(&s->pool->opening);
}

void ep_close_lost(ep_context *c) {
    pthread_mutex_lock(&holding);
    ep_close_context(c);
    pthread_mutex_unlock(&holding);
}

void ep_lose_context(ep_segment *s, ep_context *c) {
    pthread_mutex_lock(&families);
    if (c->handle == c->family->root) c->family->lost = 1;
    pthread_mutex_unlock(&families);
    forget(s, c);
}
