/* The control board of the emulated runtime: settings, faults to inject, counters. The cores are in cores.c.
 *
 * Settings come from the environment when the first call is made (EMU_<KEY>) and from emu_configure(key, value).
 *   cores 3 | light 0 | latency_us 0 | pattern 5000*9,25000 | target rk3588 | api 2.5.0 | driver 0.9.8
 *   affine 0 (1: says of every tensor that it is quantized) | own_outputs 0 (1: gives its own memory for every output)
 *   memory 0 (bytes of weights there is room for, 0: no limit)
 *   max_version 6 | fault rknn_run@3x2=-1;rknn_run@9=hang;rknn_init@1x*=delay:20 | stall 1:1500000
 * A fault is CALL@N[xCOUNT]=CODE|hang|delay:MS, N counted from 1 at the moment it is armed, COUNT * for ever.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator.h"

static const char *const CALLS[EMU_CALLS] = {
    "rknn_init", "rknn_dup_context", "rknn_destroy", "rknn_query", "rknn_set_core_mask", "rknn_inputs_set", "rknn_run",
    "rknn_outputs_get", "rknn_outputs_release", "rknn_create_mem", "rknn_destroy_mem", "rknn_set_io_mem",
    "rknn_mem_sync", "rknn_set_input_shapes", "rknn_set_batch_core_num", "rknn_register_custom_ops"};
static const char *const MISUSES[EMU_MISUSES] = {
    "concurrent", "dead_context", "changed_inputs", "destroyed_busy", "not_run", "not_released",
    "dead_mem", "busy_mem", "left_mem", "lent_weights", "overrun"};

typedef struct {
    emu_call call;
    long long first, last; /* in that call's own count */
    int code, hang, delay_ms, die; /* die: by this signal */
} fault;

emu_settings emu_set;
atomic_llong emu_misuses[EMU_MISUSES], emu_live_contexts, emu_live_mems, emu_dma_bytes, emu_dma_peak, emu_copied_in, emu_copied_out, emu_init_flags, emu_errors;
static atomic_llong calls[EMU_CALLS], latencies;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static fault faults[64];
static atomic_int n_faults;
static long long hanging, releases;

static int call_named(const char *name, size_t length) {
    for (int i = 0; i < EMU_CALLS; i++)
        if (strlen(CALLS[i]) == length && !strncmp(CALLS[i], name, length)) return i;
    return -1;
}

static int arm(const char *text) {
    const char *at = strchr(text, '@');
    int call = at ? call_named(text, (size_t)(at - text)) : -1;
    if (call < 0 || n_faults == 64) return -1;
    char *end;
    fault f = {.call = (emu_call)call};
    f.first = f.last = atomic_load(&calls[call]) + strtoll(at + 1, &end, 10);
    if (*end == 'x' && end[1] == '*') f.last = INT64_MAX, end += 2;
    else if (*end == 'x') f.last = f.first + strtoll(end + 1, &end, 10) - 1;
    if (*end++ != '=') return -1;
    if (!strncmp(end, "hang", 4)) f.hang = 1;
    else if (!strncmp(end, "die:", 4)) f.die = atoi(end + 4);
    else if (!strncmp(end, "delay:", 6)) f.delay_ms = atoi(end + 6);
    else f.code = atoi(end);
    faults[n_faults++] = f;
    return 0;
}

static void set_pattern(const char *text) {
    emu_set.n_pattern = 0;
    while (*text) {
        char *end;
        long us = strtol(text, &end, 10), times = 1;
        if (*end == '*') times = strtol(end + 1, &end, 10);
        while (times-- > 0 && emu_set.n_pattern < 64) emu_set.pattern[emu_set.n_pattern++] = us;
        text = *end ? end + 1 : end;
    }
}

/* The versions whose answers are known: the first asked itself, the second by what board owners have posted. */
static int set_runtime(const char *version) {
    if (strcmp(version, "1.6.0") && strcmp(version, "2.3.2")) return -1;
    emu_set.old = version[0] == '1';
    snprintf(emu_set.api, sizeof emu_set.api, "%s (emulated@2026-01-01T00:00:00)", version);
    return 0;
}

static int configure(const char *key, const char *value) {
    if (!strcmp(key, "cores")) emu_set.cores = atoi(value);
    else if (!strcmp(key, "light")) emu_set.light = atoi(value);
    else if (!strcmp(key, "latency_us")) emu_set.latency_us = atoll(value), emu_set.n_pattern = 0;
    else if (!strcmp(key, "pattern")) set_pattern(value);
    else if (!strcmp(key, "runtime")) return set_runtime(value);
    else if (!strcmp(key, "memory")) emu_set.memory = atoll(value);
    else if (!strcmp(key, "in_out")) emu_set.count = (uint32_t)strtoul(value, NULL, 0);
    else if (!strcmp(key, "short_outputs")) emu_set.short_outputs = (uint32_t)atoi(value);
    else if (!strcmp(key, "null_memory")) emu_set.null_memory = (uint32_t)atoi(value);
    else if (!strcmp(key, "offset")) emu_set.offset = (int32_t)atoll(value);
    else if (!strcmp(key, "own_outputs")) emu_set.own_outputs = atoi(value);
    else if (!strcmp(key, "max_version")) emu_set.max_version = strtoull(value, NULL, 0);
    else if (!strcmp(key, "target")) snprintf(emu_set.target, sizeof emu_set.target, "%s", value);
    else if (!strcmp(key, "api")) snprintf(emu_set.api, sizeof emu_set.api, "%s", value);
    else if (!strcmp(key, "driver")) snprintf(emu_set.driver, sizeof emu_set.driver, "%s", value);
    else if (!strcmp(key, "stall")) {
        int core = atoi(value);
        const char *us = strchr(value, ':');
        if (core < 0 || core >= EMU_MAX_CORES || !us) return -1;
        emu_stall(core, atoll(us + 1));
    } else if (!strcmp(key, "fault")) {
        char copy[2048], *rest = copy, *one;
        snprintf(copy, sizeof copy, "%s", value);
        while ((one = strsep(&rest, ";")))
            if (*one && arm(one)) return -1;
    } else return -1;
    return emu_set.cores < 1 || emu_set.cores > EMU_MAX_CORES ? -1 : 0;
}

static void defaults(void) {
    memset(&emu_set, 0, sizeof emu_set);
    configure("cores", "3");
    set_runtime("2.3.2");
    snprintf(emu_set.driver, sizeof emu_set.driver, "0.9.8");
    static const char *const keys[] = {"runtime", "cores", "light", "latency_us", "pattern", "target", "api", "driver",
                                       "max_version", "in_out", "own_outputs", "short_outputs", "null_memory", "offset", "fault",
                                       "stall"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char name[32] = "EMU_";
        for (size_t k = 0; keys[i][k]; k++) name[4 + k] = (char)(keys[i][k] == '_' ? '_' : keys[i][k] - 32), name[5 + k] = 0;
        const char *value = getenv(name);
        if (value && configure(keys[i], value)) fprintf(stderr, "E EMU: %s=%s is not understood\n", name, value);
    }
}

void emu_start(void) { pthread_once(&once, defaults); }

int emu_configure(const char *key, const char *value) {
    emu_start();
    pthread_mutex_lock(&lock);
    int bad = configure(key, value);
    pthread_mutex_unlock(&lock);
    return bad;
}

/* Settings back to the environment's, faults disarmed, hangs released, counters to zero. Contexts stay. */
void emu_reset(void) {
    emu_start();
    pthread_mutex_lock(&lock);
    n_faults = 0;
    releases++;
    pthread_cond_broadcast(&released);
    emu_cores_reset();
    for (int i = 0; i < EMU_CALLS; i++) calls[i] = 0;
    for (int i = 0; i < EMU_MISUSES; i++) emu_misuses[i] = 0;
    emu_dma_peak = atomic_load(&emu_dma_bytes);
    latencies = emu_copied_in = emu_copied_out = emu_errors = 0;
    defaults();
    pthread_mutex_unlock(&lock);
}

void emu_release_hangs(void) {
    pthread_mutex_lock(&lock);
    releases++;
    pthread_cond_broadcast(&released);
    pthread_mutex_unlock(&lock);
}

/* A call's name, a misuse's name, contexts, mems, dma_bytes, dma_peak (since the reset), errors (lines logged), copied_in, copied_out, init_flags (of the last rknn_init), hanging,
 * core<i>_runs, core<i>_busy_us; -1: no such thing. */
long long emu_count(const char *name) {
    int call = call_named(name, strlen(name));
    if (call >= 0) return atomic_load(&calls[call]);
    for (int i = 0; i < EMU_MISUSES; i++)
        if (!strcmp(MISUSES[i], name)) return atomic_load(&emu_misuses[i]);
    if (!strcmp(name, "contexts")) return atomic_load(&emu_live_contexts);
    if (!strcmp(name, "mems")) return atomic_load(&emu_live_mems);
    if (!strcmp(name, "dma_bytes")) return atomic_load(&emu_dma_bytes);
    if (!strcmp(name, "dma_peak")) return atomic_load(&emu_dma_peak);
    if (!strcmp(name, "copied_in")) return atomic_load(&emu_copied_in);
    if (!strcmp(name, "errors")) return atomic_load(&emu_errors);
    if (!strcmp(name, "init_flags")) return atomic_load(&emu_init_flags);
    if (!strcmp(name, "copied_out")) return atomic_load(&emu_copied_out);
    pthread_mutex_lock(&lock);
    long long value = -1;
    int core = 0;
    if (!strcmp(name, "hanging")) value = hanging;
    else if (!strncmp(name, "core", 4) && (core = name[4] - '0') >= 0 && core < EMU_MAX_CORES) {
        if (!strcmp(name + 5, "_runs")) value = emu_core_count(core, 0);
        else if (!strcmp(name + 5, "_busy_us")) value = emu_core_count(core, 1);
    }
    pthread_mutex_unlock(&lock);
    return value;
}

int emu_enter(emu_call call) {
    emu_start();
    long long number = atomic_fetch_add(&calls[call], 1) + 1;
    if (!atomic_load(&n_faults)) return 0;
    pthread_mutex_lock(&lock);
    fault hit = {.code = 0};
    for (int i = 0; i < n_faults; i++)
        if (faults[i].call == call && number >= faults[i].first && number <= faults[i].last) hit = faults[i];
    if (hit.hang) {
        long long before = releases;
        hanging++;
        while (releases == before) pthread_cond_wait(&released, &lock);
        hanging--;
    }
    pthread_mutex_unlock(&lock);
    if (hit.die) emu_die(hit.die, "a fault that was asked for");
    if (hit.delay_ms) emu_sleep_until(emu_now() + (int64_t)hit.delay_ms * 1000000);
    return hit.code;
}

int64_t emu_next_latency(void) {
    long long number = atomic_fetch_add(&latencies, 1);
    return emu_set.n_pattern ? emu_set.pattern[number % emu_set.n_pattern] : emu_set.latency_us;
}
