/* How the vendor's runtime speaks and how it ends a process: log lines on stderr, SIGSEGV and abort.
 *
 * Each end is preceded by a line "E EMU: ..." that names its reason, which the vendor's runtime does not print, so that a
 * test that expects the end knows it is the right one.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "emulator.h"

void emu_say(const char *format, ...) {
    char line[2048];
    struct timespec t;
    struct tm local;
    clock_gettime(CLOCK_REALTIME, &t);
    localtime_r(&t.tv_sec, &local);
    int used = snprintf(line, sizeof line, "E RKNN: [%02d:%02d:%02d.%03d] ", local.tm_hour, local.tm_min, local.tm_sec,
                        (int)(t.tv_nsec / 1000000));
    va_list more;
    va_start(more, format);
    vsnprintf(line + used, sizeof line - (size_t)used - 1, format, more);
    va_end(more);
    fprintf(stderr, "%s\n", line);
    emu_errors++;
}

void emu_die(int number, const char *why) {
    fprintf(stderr, "E EMU: %s: %s\n", number == SIGABRT ? "abort" : "segmentation fault", why);
    fflush(stderr);
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigaction(number, &plain, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    kill(getpid(), number);
    raise(number);
    _exit(128 + number);
}

const char *emu_type_label(rknn_tensor_type type) {
    static const char *const names[] = {"FLOAT32", "FLOAT16", "INT8", "UINT8", "INT16", "UINT16",
                                        "INT32", "UINT32", "INT64", "BOOL", "INT4", "BFLOAT16"};
    return type < sizeof names / sizeof *names ? names[type] : "UNKNOWN";
}
