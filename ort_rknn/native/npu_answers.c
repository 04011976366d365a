/* Answers the few questions that the toolkit's aarch64 compiler puts to the NPU's driver, in the compiler's own process.
 *
 * Preloaded into that one child where the user asks for it (ORT_RKNN_TOOLKIT_WITHOUT_NPU=1) and nowhere else: the
 * compiler opens the NPU even to compile, asks for the driver's name and two versions, and submits nothing. What it is
 * told changes nothing in the code it makes (seen: any hardware version, drivers 0.7.2 to 0.9.8, code for every SoC).
 * Everything beyond these questions fails as on a machine without an NPU.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define NODE "/dev/rknpu"
#define MOST 16

struct action { /* struct rknpu_action of the vendor's driver */
    uint32_t flags, value;
};

enum { HARDWARE_VERSION = 0, DRIVER_VERSION = 1 }; /* flags of an action */
enum { HARDWARE = 0x46495245, DRIVER = 908 };      /* RK3588's, and 0.9.8 */

static int answered[MOST]; /* descriptors, each more by one: 0 is a free place */

static int is_node(const char *path) { return path && strcmp(path, NODE) == 0; }

static int given(int fd) {
    for (int i = 0; i < MOST; i++)
        if (answered[i] == fd + 1) return 1;
    return 0;
}

static int open_node(void) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    for (int i = 0; fd >= 0 && i < MOST; i++)
        if (!answered[i]) {
            answered[i] = fd + 1;
            return fd;
        }
    return fd;
}

static int open_other(int dir, const char *path, int flags, mode_t mode) {
    if (is_node(path)) return open_node();
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

#define MODE                                                            \
    mode_t mode = 0;                                                    \
    if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {               \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        mode = va_arg(rest, mode_t);                                    \
        va_end(rest);                                                   \
    }

EXPORT int open(const char *path, int flags, ...) {
    MODE
    return open_other(AT_FDCWD, path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...) {
    MODE
    return open_other(AT_FDCWD, path, flags, mode);
}

EXPORT int openat(int dir, const char *path, int flags, ...) {
    MODE
    return open_other(dir, path, flags, mode);
}

EXPORT int openat64(int dir, const char *path, int flags, ...) {
    MODE
    return open_other(dir, path, flags, mode);
}

EXPORT int access(const char *path, int mode) {
    if (is_node(path)) return 0;
    return (int)syscall(SYS_faccessat, AT_FDCWD, path, mode, 0);
}

EXPORT int close(int fd) {
    for (int i = 0; i < MOST; i++)
        if (answered[i] == fd + 1) answered[i] = 0;
    return (int)syscall(SYS_close, fd);
}

EXPORT int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (!given(fd)) return (int)syscall(SYS_ioctl, fd, request, argument);
    size_t size = (request >> 16) & 0x3fff;
    if ((request & 0xff) == 0 && size == sizeof(struct action) && argument) {
        struct action *action = argument;
        if (action->flags == HARDWARE_VERSION) {
            action->value = HARDWARE;
            return 0;
        }
        if (action->flags == DRIVER_VERSION) {
            action->value = DRIVER;
            return 0;
        }
    }
    errno = EINVAL;
    return -1;
}
