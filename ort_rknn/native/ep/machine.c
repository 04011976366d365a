/* This machine: the SoC by its device tree, the NPU driver in the kernel, and what stands in the way. As devices/soc.py. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ep.h"

/* As the converters' table of targets (targets.py), which a test compares. */
static const ep_target TARGETS[] = {
    {"rk3588", 3, "RKNPU v2", {"rk3588s", "rk3588s2", "rk3582"}},
    {"rk3576", 2, "RKNPU f2", {"rk3576s"}},
    {"rk3566", 1, "RKNPU lite", {0}},
    {"rk3568", 1, "RKNPU lite", {0}},
    {"rk3562", 1, "RKNPU t4", {0}},
    {"rv1126b", 1, "RKNPU f3", {0}},
    {"rv1103", 1, "mini", {0}},
    {"rv1103b", 1, "mini", {0}},
    {"rv1106", 1, "mini", {0}},
    {"rv1106b", 1, "mini", {0}},
    {"rk2118", 1, "mini", {0}},
};
enum { N_TARGETS = sizeof TARGETS / sizeof *TARGETS };

static const char *const TREES[] = {"proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible"};
static const char *const NODES[] = {"dev/dri/renderD129", "dev/dri/renderD128", "dev/rknpu", "dev/accel/accel0"};
static const char *const VERSIONS[] = {"sys/module/rknpu/version", "sys/kernel/debug/rknpu/version",
                                       "proc/debug/rknpu/version"};
static const char *const ROCKET[] = {"sys/module/rocket", "sys/bus/platform/drivers/rocket"};
static const char *const RKNPU[] = {"sys/module/rknpu", "sys/bus/platform/drivers/RKNPU", "sys/kernel/debug/rknpu",
                                    "dev/rknpu"};
static const char *const CONTAINERS[] = {".dockerenv",
                                         "run/.containerenv",
                                         "run/secrets/kubernetes.io",
                                         "var/run/secrets/kubernetes.io",
                                         "run/host/container-manager",
                                         "dev/.lxc-boot-id"};
#define COUNT(list) (sizeof list / sizeof *list)

const ep_target *ep_find_target(const char *name) {
    for (size_t i = 0; name && i < N_TARGETS; i++) {
        if (!strcasecmp(name, TARGETS[i].name)) return &TARGETS[i];
        for (size_t k = 0; k < 4 && TARGETS[i].aliases[k]; k++)
            if (!strcasecmp(name, TARGETS[i].aliases[k])) return &TARGETS[i];
    }
    return NULL;
}

const char *ep_targets(void) {
    return "rk3588, rk3576, rk3566, rk3568, rk3562, rv1126b, rv1103, rv1103b, rv1106, rv1106b, rk2118";
}

static const char *under(const char *root, const char *name, char room[1024]) {
    snprintf(room, 1024, "%s/%s", strcmp(root, "/") ? root : "", name);
    return room;
}

static int is_there(const char *root, const char *const *names, size_t count) {
    char path[1024];
    struct stat st;
    for (size_t i = 0; i < count; i++)
        if (!stat(under(root, names[i], path), &st)) return 1;
    return 0;
}

/* Reads at most size - 1 bytes; how many. */
static size_t read_some(const char *root, const char *name, char *room, size_t size) {
    char path[1024];
    int fd = open(under(root, name, path), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, room, size - 1);
    if (fd >= 0) close(fd);
    room[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

/* The SoC among words such as "rockchip,rk3588s-evb\0rockchip,rk3588\0"; the last one is the plain SoC. */
static const ep_target *soc_among(const char *words, size_t size) {
    const ep_target *found = NULL;
    for (const char *at = words; at < words + size; at += strlen(at) + 1)
        if (!strncmp(at, "rockchip,", 9) && ep_find_target(at + 9)) found = ep_find_target(at + 9);
    return found;
}

static int driven_by_rocket(const char *root) {
    char text[2048];
    if (is_there(root, ROCKET, COUNT(ROCKET))) return 1;
    read_some(root, "sys/class/accel/accel0/device/uevent", text, sizeof text);
    for (const char *line = text; line; line = (line = strchr(line, '\n')) ? line + 1 : NULL)
        if (!strncmp(line, "DRIVER=rocket", 13) && (!line[13] || line[13] == '\n')) return 1;
    return 0;
}

static void find_version(const char *root, char *room, size_t size) {
    char text[256];
    for (size_t i = 0; i < COUNT(VERSIONS); i++) {
        read_some(root, VERSIONS[i], text, sizeof text);
        unsigned major, minor, patch;
        for (const char *at = text; *at; at++)
            if (isdigit((unsigned char)*at)) {
                if (sscanf(at, "%u.%u.%u", &major, &minor, &patch) == 3) {
                    snprintf(room, size, "%u.%u.%u", major, minor, patch);
                    return;
                }
                while (isdigit((unsigned char)at[1])) at++;
            }
    }
}

static int may_open(const char *root, const char *node) {
    char path[1024];
    int fd = open(under(root, node, path), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) close(fd);
    return fd >= 0 || (errno != EACCES && errno != EPERM); /* busy, or no device: not a matter of permission */
}

/* The DRM device that /dev/rknpu is a link to, or "". */
static const char *linked(const char *root, char room[256]) {
    char path[1024];
    ssize_t n = readlink(under(root, "dev/rknpu", path), room, 255);
    room[n > 0 ? n : 0] = 0;
    char *last = strrchr(room, '/');
    if (last) memmove(room, last + 1, strlen(last));
    if (strncmp(room, "renderD", 7) && strncmp(room, "card", 4)) *room = 0;
    return room;
}

void ep_look(const char *root, ep_machine *m) {
    char words[1024] = "", nodes[256] = "", link[256];
    size_t size = 0, exist = 0, denied = 0;
    memset(m, 0, sizeof *m);
    for (size_t i = 0; i < COUNT(TREES) && !size; i++) size = read_some(root, TREES[i], words, sizeof words);
    m->target = soc_among(words, size);
    const char *said = getenv("ORT_RKNN_TARGET");
    /* believed where no device tree says otherwise: a container hides it, or it is one of Rockchip's */
    int asked = !m->target && said && *said && (!size || memmem(words, size, "rockchip,", 9));
    int named = asked && (m->target = ep_find_target(said)) != NULL;
    int rocket = driven_by_rocket(root), container = is_there(root, CONTAINERS, COUNT(CONTAINERS));
    snprintf(m->driver, sizeof m->driver, "%s", rocket ? "rocket" : is_there(root, RKNPU, COUNT(RKNPU)) ? "rknpu" : "");
    find_version(root, m->driver_version, sizeof m->driver_version);
    for (size_t i = 0; i < COUNT(NODES); i++) {
        if (!is_there(root, &NODES[i], 1)) continue;
        exist++;
        if (may_open(root, NODES[i])) continue;
        size_t n = strlen(nodes);
        snprintf(nodes + n, sizeof nodes - n, "%s/%s", denied++ ? " and " : "", NODES[i]);
    }
    if (!m->target && asked) {
        snprintf(m->problem, sizeof m->problem,
                 "ORT_RKNN_TARGET or the option target says '%.40s', and no SoC of that name is known; known are %s", said,
                 ep_targets());
    } else if (!m->target && size) {
        for (size_t i = 0; i + 1 < size; i++)
            if (!words[i]) words[i] = ' ';
        snprintf(m->problem, sizeof m->problem, "the device tree names no SoC with an NPU that is known here (%.400s)",
                 words);
    } else if (!m->target && container) {
        snprintf(m->problem, sizeof m->problem,
                 "this container hides the device tree, so the SoC is not known; start it with --security-opt "
                 "systempaths=unconfined and --device /dev/dri, or set ORT_RKNN_TARGET");
    } else if (!m->target) {
        snprintf(m->problem, sizeof m->problem,
                 "this is no Rockchip board (there is no device tree; where it is one all the same, ORT_RKNN_TARGET "
                 "names the SoC)");
    } else if (rocket) {
        snprintf(
            m->problem, sizeof m->problem,
            "the kernel drives the %s's NPU with mainline Linux's 'rocket', which librknnrt cannot use; boot a kernel "
            "with the vendor's rknpu driver (0.9.6 or newer), or build the vendor's driver as a module for it "
            "(github.com/w568w/rknpu-module; seen by its author on an RK3566 with kernel 6.19 and librknnrt 2.3.2), "
            "with rocket kept from loading",
            m->target->name);
    } else if (*linked(root, link)) {
        snprintf(m->problem, sizeof m->problem,
                 "/dev/rknpu is a link to /dev/dri/%s, which librknnrt takes for the older driver's device and crashes on "
                 "('Meet unsupported target type: 0xffffffff'); remove the link (sudo rm /dev/rknpu)",
                 link);
    } else if (exist && denied == exist) {
        snprintf(m->problem, sizeof m->problem,
                 "no permission on %s; add the user to the groups 'render' and 'video', or run as root", nodes);
    } else if (container && !exist) {
        snprintf(m->problem, sizeof m->problem,
                 "this container has no NPU device node; start it with --device /dev/dri");
    } else if (named && !exist) {
        snprintf(m->problem, sizeof m->problem,
                 "ORT_RKNN_TARGET or the option target says %s, and there is no NPU device node (/dev/dri/renderD*, "
                 "/dev/rknpu); boot a kernel with the vendor's rknpu driver",
                 m->target->name);
    }
}
