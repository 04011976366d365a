/* What onnxruntime calls first: the two exported functions, the devices, and whether a compiled model fits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ep.h"

#define EXPORTED __attribute__((visibility("default")))

enum { ROCKCHIP = 0x1d87 }; /* its PCI vendor id */

typedef struct {
    OrtEpFactory base;
    ep_ort ort;
    const OrtLogger *logger;
    ep_machine machine;
    OrtHardwareDevice *device; /* onnxruntime keeps the pointer only */
    char runtime[32];
    atomic_int
        users; /* onnxruntime, and every provider: programs unregister the library before their sessions are gone */
} factory;

static void leave(factory *self) {
    if (atomic_fetch_sub(&self->users, 1) != 1) return;
    free(self);
}

static const char *name_of(const OrtEpFactory *f) { return (void)f, EP_NAME; }
static const char *vendor_of(const OrtEpFactory *f) { return (void)f, "ort_rknn"; }
static const char *version_of(const OrtEpFactory *f) { return (void)f, EP_VERSION; }
static uint32_t vendor_id_of(const OrtEpFactory *f) { return (void)f, (uint32_t)ROCKCHIP; }
static bool has_no_streams(const OrtEpFactory *f) { return (void)f, false; }

static OrtStatus *no_allocator(OrtEpFactory *f, const OrtMemoryInfo *info, const OrtKeyValuePairs *options,
                               OrtAllocator **allocator) {
    (void)f, (void)info, (void)options;
    *allocator = NULL; /* the CPU's own */
    return NULL;
}
static void release_allocator(OrtEpFactory *f, OrtAllocator *allocator) { (void)f, (void)allocator; }
static OrtStatus *no_transfer(OrtEpFactory *f, void **transfer) {
    (void)f;
    *transfer = NULL;
    return NULL;
}

/* 0, and the library is opened; or why no NPU can be used here. */
static int find_npu(factory *self, ep_failure *f) {
    ep_look("/", &self->machine);
    /* Whoever names a library knows what he does: emulators and unusual boards have no device tree. */
    if (!ep_named_runtime() && self->machine.problem[0]) return ep_fail(f, ORT_EP_FAIL, "%s", self->machine.problem);
    const ep_runtime *runtime = ep_open_runtime(NULL, f);
    if (runtime) snprintf(self->runtime, sizeof self->runtime, "%s", runtime->version);
    return f->code;
}

static OrtStatus *make_device(factory *self) {
    const OrtApi *api = self->ort.api;
    const ep_target *soc = self->machine.target;
    OrtKeyValuePairs *facts = NULL;
    char cores[16];
    api->CreateKeyValuePairs(&facts);
    if (!facts) return api->CreateStatus(ORT_FAIL, EP_NAME ": no memory left");
    if (soc) {
        snprintf(cores, sizeof cores, "%u", soc->cores);
        api->AddKeyValuePair(facts, "soc", soc->name);
        api->AddKeyValuePair(facts, "cores", cores);
    }
    if (self->machine.driver[0]) api->AddKeyValuePair(facts, "driver", self->machine.driver);
    if (self->machine.driver_version[0]) api->AddKeyValuePair(facts, "driver_version", self->machine.driver_version);
    if (self->runtime[0]) api->AddKeyValuePair(facts, "runtime_version", self->runtime);
    const char *digits = soc ? strpbrk(soc->name, "0123456789") : NULL;
    uint32_t id = digits ? (uint32_t)strtoul(digits, NULL, 16) : 0; /* rk3588 is 0x3588, as lspci has it */
    OrtStatus *status =
        self->ort.ep->CreateHardwareDevice(ORT_DEVICE_NPU, ROCKCHIP, id, "Rockchip", facts, &self->device);
    api->ReleaseKeyValuePairs(facts);
    return status;
}

static OrtStatus *get_devices(OrtEpFactory *base, const OrtHardwareDevice *const *devices, size_t count,
                              OrtEpDevice **made, size_t room, size_t *n_made) {
    factory *self = (factory *)base;
    ep_failure f = {.code = 0};
    const OrtHardwareDevice *device = NULL;
    *n_made = 0;
    if (!room) return NULL;
    if (find_npu(self, &f)) {
        ep_log(&self->ort, self->logger, ORT_INFO, "no NPU can be used: %s", f.text);
        return NULL;
    }
    if (self->ort.version >= 24) {
        OrtStatus *status = self->device ? NULL : make_device(self);
        if (status) return status;
        device = self->device;
    }
    for (size_t i = 0; !device && i < count; i++) /* 1.23 knows no devices but its own: there it is the CPU's */
        if (self->ort.api->HardwareDevice_Type(devices[i]) == ORT_DEVICE_CPU) device = devices[i];
    if (!device) return NULL;
    OrtStatus *status = self->ort.ep->CreateEpDevice(base, device, NULL, NULL, &made[0]);
    if (!status) *n_made = 1;
    return status;
}

static OrtStatus *create_ep(OrtEpFactory *base, const OrtHardwareDevice *const *devices,
                            const OrtKeyValuePairs *const *metadata, size_t count, const OrtSessionOptions *options,
                            const OrtLogger *logger, OrtEp **ep) {
    factory *self = (factory *)base;
    (void)devices, (void)metadata;
    *ep = NULL;
    if (count != 1)
        return self->ort.api->CreateStatus(ORT_INVALID_ARGUMENT, EP_NAME " takes one device: a board has one NPU");
    OrtStatus *status = ep_new_provider(&self->ort, &self->machine, options, logger, ep);
    if (!status) atomic_fetch_add(&self->users, 1);
    return status;
}

static void release_ep(OrtEpFactory *base, OrtEp *ep) {
    ep_free_provider(ep);
    leave((factory *)base);
}

static unsigned rank_of(const char *version) {
    unsigned major = 0, minor = 0, patch = 0;
    return sscanf(version, "%u.%u.%u", &major, &minor, &patch) >= 2 ? 1000000 * major + 1000 * minor + patch : 0;
}

/* The value of a field in "rknn;targets=rk3588,rk3566;toolkit=2.5.0". */
static void field_of(const char *info, const char *name, char *value, size_t room) {
    size_t n = strlen(name);
    *value = 0;
    for (const char *at = strchr(info, ';'); at; at = strchr(at, ';')) {
        if (strncmp(++at, name, n) || at[n] != '=') continue;
        snprintf(value, room, "%.*s", (int)strcspn(at + n + 1, ";"), at + n + 1);
        return;
    }
}

static OrtStatus *validate(OrtEpFactory *base, const OrtHardwareDevice *const *devices, size_t count, const char *info,
                           OrtCompiledModelCompatibility *answer) {
    factory *self = (factory *)base;
    const ep_target *here = self->machine.target;
    char targets[256], toolkit[64], *rest = targets;
    (void)devices, (void)count;
    *answer = ORT_EP_NOT_APPLICABLE;
    if (strncmp(info, "rknn;", 5)) return NULL;
    field_of(info, "targets", targets, sizeof targets);
    field_of(info, "toolkit", toolkit, sizeof toolkit);
    bool fits = !here;
    for (char *name; !fits && (name = strsep(&rest, ","));) {
        const ep_target *made_for = ep_find_target(name);
        fits = made_for && !strcmp(made_for->family, here->family);
    }
    unsigned has = rank_of(self->runtime), made = rank_of(toolkit);
    /* Runtimes before 1.5.2 refuse what the toolkits from 2.0 on write (asked of 1.4.0, 1.5.0, 1.5.2 and 1.6.0); later ones
     * open newer files than themselves, but not every operator in them. */
    if (!fits || (has && has < 1005002 && made >= 2000000)) *answer = ORT_EP_UNSUPPORTED;
    else if (has && made && has / 1000 < made / 1000) *answer = ORT_EP_SUPPORTED_PREFER_RECOMPILATION;
    else *answer = ORT_EP_SUPPORTED_OPTIMAL;
    return NULL;
}

EXPORTED OrtStatus *CreateEpFactories(const char *registered_name, const OrtApiBase *base, const OrtLogger *logger,
                                      OrtEpFactory **factories, size_t room, size_t *count) {
    unsigned major = 0, minor = 0, patch = 0;
    (void)registered_name;
    *count = 0;
    /* Asking for a version that is not there prints a line on stderr, so the version is read first. */
    const char *version = base->GetVersionString();
    sscanf(version, "%u.%u.%u", &major, &minor, &patch);
    uint32_t wanted = major == 1 && minor < ORT_API_NEWEST ? minor : ORT_API_NEWEST;
    const OrtApi *api = base->GetApi(wanted);
    if (!api || wanted < ORT_API_OLDEST) {
        char text[200];
        snprintf(text, sizeof text, "this is onnxruntime %.40s; " EP_NAME " needs 1.23.1 or newer (1.24 at best)",
                 version);
        return api || (api = base->GetApi(1)) ? api->CreateStatus(ORT_NOT_IMPLEMENTED, text) : NULL;
    }
    if (room < 1) return api->CreateStatus(ORT_INVALID_ARGUMENT, EP_NAME " needs room for one factory");
    factory *self = calloc(1, sizeof *self);
    if (!self) return api->CreateStatus(ORT_FAIL, EP_NAME ": no memory left");
    self->ort = (ep_ort){api, api->GetEpApi(), wanted};
    self->logger = logger;
    self->users = 1;
    self->base = (OrtEpFactory){
        .ort_version_supported = wanted,
        .GetName = name_of,
        .GetVendor = vendor_of,
        .GetSupportedDevices = get_devices,
        .CreateEp = create_ep,
        .ReleaseEp = release_ep,
        .GetVendorId = vendor_id_of,
        .GetVersion = version_of,
        .ValidateCompiledModelCompatibilityInfo = validate,
        .CreateAllocator = no_allocator,
        .ReleaseAllocator = release_allocator,
        .CreateDataTransfer = no_transfer,
        .IsStreamAware = has_no_streams,
    };
    if (wanted == 23 && !patch)
        ep_log(&self->ort, logger, ORT_WARNING,
               "onnxruntime 1.23.0 cannot mix a plugin's nodes with the CPU's; 1.23.1 and newer can");
    factories[0] = &self->base;
    *count = 1;
    return NULL;
}

EXPORTED OrtStatus *ReleaseEpFactory(OrtEpFactory *base) {
    factory *self = (factory *)base;
    if (!self) return NULL;
    if (self->device) self->ort.ep->ReleaseHardwareDevice(self->device);
    self->device = NULL;
    leave(self);
    return NULL;
}
