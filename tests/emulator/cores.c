/* The cores of the emulated NPU, each with a first-in-first-out queue, as the driver has them.
 *
 * With EMU_SHARED=/path/of/a/file they are in that file, and all processes that name it share them: one board. A job starts
 * when its cores are through with those handed over before; AUTO takes the core with the fewest jobs, the first of those. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "emulator.h"

enum { MOST_ENDS = 64 }; /* of jobs a core remembers: more than can be under way */

typedef struct {
    int64_t free_at, busy; /* nanoseconds */
    long long runs, jobs;
    int64_t ends[MOST_ENDS];
} core;

typedef struct {
    int made;
    pthread_mutex_t lock;
    core cores[EMU_MAX_CORES];
} board;

static board *here, own = {.lock = PTHREAD_MUTEX_INITIALIZER};
static pthread_once_t once = PTHREAD_ONCE_INIT;

int64_t emu_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void emu_sleep_until(int64_t deadline) {
    static _Thread_local int sharp;
    if (!sharp) sharp = prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0) == 0 ? 1 : -1;
    struct timespec t = {deadline / 1000000000, deadline % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {}
}

static board *shared(const char *path) {
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || flock(file, LOCK_EX) || ftruncate(file, sizeof(board))) abort();
    board *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (b == MAP_FAILED) abort();
    if (!b->made) {
        pthread_mutexattr_t attr;
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&b->lock, &attr);
        pthread_mutexattr_destroy(&attr);
        b->made = 1;
    }
    flock(file, LOCK_UN); /* the mapping would keep it */
    close(file);
    return b;
}

static void find(void) {
    const char *path = getenv("EMU_SHARED");
    here = path && *path ? shared(path) : &own;
}

static board *lock(void) {
    pthread_once(&once, find);
    if (pthread_mutex_lock(&here->lock) == EOWNERDEAD) pthread_mutex_consistent(&here->lock);
    return here;
}

static void take(core *c, int64_t from, int64_t until) {
    c->free_at = until;
    c->busy += until - from;
    c->ends[c->jobs++ % MOST_ENDS] = until;
}

static int queued(const core *c, int64_t now) {
    int n = 0;
    while (n < MOST_ENDS && n < c->jobs && c->ends[(c->jobs - 1 - n) % MOST_ENDS] > now) n++;
    return n;
}

void emu_stall(int number, int64_t us) {
    board *b = lock();
    core *c = &b->cores[number];
    int64_t now = emu_now(), from = c->free_at > now ? c->free_at : now;
    take(c, from, from + us * 1000);
    c->busy -= us * 1000;
    pthread_mutex_unlock(&b->lock);
}

void emu_cores_reset(void) {
    board *b = lock();
    if (b == &own) memset(b->cores, 0, sizeof b->cores);
    pthread_mutex_unlock(&b->lock);
}

long long emu_core_count(int number, int busy) {
    board *b = lock();
    long long value = busy ? b->cores[number].busy / 1000 : b->cores[number].runs;
    pthread_mutex_unlock(&b->lock);
    return value;
}

int emu_occupy(rknn_core_mask mask, int64_t latency_us) {
    board *b = lock();
    int64_t latency = latency_us * 1000, now = emu_now(), start = now;
    uint32_t all = (1u << emu_set.cores) - 1, chosen = mask == 0xFFFF ? all : mask & all;
    if (mask == 0) {
        int best = 0;
        for (int i = 1; i < emu_set.cores; i++)
            if (queued(&b->cores[i], now) < queued(&b->cores[best], now)) best = i;
        chosen = 1u << best;
    }
    for (int i = 0; i < emu_set.cores; i++)
        if (chosen >> i & 1 && b->cores[i].free_at > start) start = b->cores[i].free_at;
    for (int i = 0; i < emu_set.cores; i++)
        if (chosen >> i & 1) take(&b->cores[i], start, start + latency), b->cores[i].runs++;
    pthread_mutex_unlock(&b->lock);
    if (latency || start > now) emu_sleep_until(start + latency);
    return 0;
}
