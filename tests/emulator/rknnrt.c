/* The emulated librknnrt: how contexts begin and end, their cores and shapes. */
#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "context.h"

static context *table[4096];
static uint64_t generations[4096];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

context *emu_peek(rknn_context handle) {
    pthread_mutex_lock(&lock);
    context *c = table[handle & 4095];
    if (c && c->handle != handle) c = NULL;
    pthread_mutex_unlock(&lock);
    if (!c) emu_misuses[EMU_DEAD]++;
    return c;
}

context *emu_find(rknn_context handle) {
    context *c = emu_peek(handle);
    if (!c && handle) emu_die(SIGSEGV, "a context is used after rknn_destroy");
    return c;
}

void emu_need_shapes(const context *c) {
    if (c->model->dynamic && !c->shaped)
        emu_die(SIGABRT, "std::out_of_range leaves the C interface: a dynamic model before rknn_set_input_shapes");
}

/* A context serves one thread at a time; whoever breaks that is counted and goes on. */
int emu_hold(context *c) {
    int mine = !atomic_exchange(&c->busy, 1);
    if (!mine) emu_misuses[EMU_CONCURRENT]++;
    return mine;
}

void emu_let_go(context *c, int mine) {
    if (mine) atomic_store(&c->busy, 0);
}

static void drop_model(emu_model *model) {
    if (atomic_fetch_sub(&model->users, 1) > 1) return;
    atomic_fetch_sub(&emu_dma_bytes, model->weight_bytes);
    free(model);
}

static int open_context(rknn_context *out, emu_model *model, uint32_t flag) {
    context *c = calloc(1, sizeof *c);
    if (!c) return RKNN_ERR_MALLOC_FAIL;
    c->model = model;
    c->flag = flag;
    pthread_mutex_lock(&lock);
    uint64_t slot = 1;
    while (slot < 4096 && table[slot]) slot++;
    if (slot < 4096) {
        c->handle = ++generations[slot] << 12 | slot;
        table[slot] = c;
    }
    pthread_mutex_unlock(&lock);
    if (slot == 4096) {
        free(c);
        return RKNN_ERR_MALLOC_FAIL;
    }
    emu_live_contexts++;
    *out = c->handle;
    return 0;
}

static int read_path(const char *path, emu_model *model) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info)) {
        if (fd >= 0) close(fd);
        return RKNN_ERR_MODEL_INVALID;
    }
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED) return RKNN_ERR_MODEL_INVALID;
    int code = emu_model_read(data, (size_t)info.st_size, model);
    munmap(data, (size_t)info.st_size);
    return code;
}

static int load(emu_model *model, void *data, uint32_t size, uint32_t flag, const rknn_init_extend *extend) {
    int code = !data ? RKNN_ERR_MODEL_INVALID : size ? emu_model_read(data, size, model) : read_path(data, model);
    if (!code && emu_set.max_version && model->version > emu_set.max_version) { /* 1.5.0 and before check it */
        emu_say("Invalid RKNN model version %llu", (unsigned long long)model->version);
        code = RKNN_ERR_MODEL_INVALID;
    }
    if (!code && *emu_set.target && *model->target && strcasecmp(emu_set.target, model->target)) {
        char made[32], here[32];
        for (int i = 0; i < 32; i++) made[i] = (char)toupper(model->target[i]), here[i] = (char)toupper(emu_set.target[i]);
        emu_say("This rknn model is for %s, but current platform is %s", made, here);
        code = RKNN_ERR_MODEL_INVALID;
    }
    if (code) emu_say("rknn_init, load model failed!");
    if (!code && !emu_set.old && !strcmp(emu_set.driver, "0.9.2")) code = RKNN_ERR_DEVICE_UNMATCH; /* owners: not with 2.3.2 */
    if (code || !(flag & RKNN_FLAG_SHARE_WEIGHT_MEM)) return code;
    if (model->dynamic) emu_say("RKNN_FLAG_SHARE_WEIGHT_MEM is invalid, dynamic shape rknn model is not supported!");
    else if (!extend) emu_say("rknn_init_extend is not set!");
    return model->dynamic || !extend ? RKNN_ERR_PARAM_INVALID : 0;
}

/* Whether there is memory for a model's weights. */
static int take_memory(int64_t bytes) {
    long long now = atomic_fetch_add(&emu_dma_bytes, bytes) + bytes;
    if (emu_set.memory && now > emu_set.memory) {
        atomic_fetch_sub(&emu_dma_bytes, bytes);
        emu_say("failed to allocate handle, ret: -1, errno: 12, errstr: Cannot allocate memory");
        return 0;
    }
    for (long long most = atomic_load(&emu_dma_peak); now > most && !atomic_compare_exchange_weak(&emu_dma_peak, &most, now);) {}
    return 1;
}

int rknn_init(rknn_context *out, void *data, uint32_t size, uint32_t flag, rknn_init_extend *extend) {
    int code = emu_enter(EMU_INIT);
    emu_init_flags = flag;
    if (code) return code;
    if (!out) return RKNN_ERR_PARAM_INVALID;
    emu_model *model = calloc(1, sizeof *model);
    if (!model) return RKNN_ERR_MALLOC_FAIL;
    code = load(model, data, size, flag, extend);
    context *lender = NULL;
    if (!code && flag & RKNN_FLAG_SHARE_WEIGHT_MEM) {
        lender = emu_peek(extend->ctx);
        if (!lender) code = RKNN_ERR_CTX_INVALID;
        else model->weight_bytes = 0;
    }
    if (!code && !take_memory(model->weight_bytes)) code = RKNN_ERR_MALLOC_FAIL;
    if (!code) {
        model->users = 1;
        code = open_context(out, model, flag);
        if (code) atomic_fetch_sub(&emu_dma_bytes, model->weight_bytes);
        else if (lender) emu_find(*out)->lender = extend->ctx;
    }
    if (code) free(model);
    return code;
}

int rknn_dup_context(rknn_context *in, rknn_context *out) {
    int code = emu_enter(EMU_DUP);
    if (code) return code;
    context *c = in && out ? emu_find(*in) : NULL;
    if (!c) return RKNN_ERR_CTX_INVALID;
    c->model->users++;
    code = open_context(out, c->model, c->flag);
    if (code) drop_model(c->model);
    return code;
}

int rknn_destroy(rknn_context handle) {
    int code = emu_enter(EMU_DESTROY);
    context *c = emu_peek(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    if (code) return code;
    if (atomic_exchange(&c->busy, 1)) { /* another thread is inside: the real one crashes sooner or later */
        emu_misuses[EMU_BUSY_DESTROY]++;
        return RKNN_ERR_FAIL;
    }
    pthread_mutex_lock(&lock);
    table[handle & 4095] = NULL;
    for (int i = 0; i < 4096; i++)
        if (table[i] && table[i]->lender == handle) emu_misuses[EMU_LENT_WEIGHTS]++; /* they read freed memory from now on */
    pthread_mutex_unlock(&lock);
    if (c->unreleased) emu_misuses[EMU_UNRELEASED]++;
    if (emu_mems_of(handle)) emu_misuses[EMU_LEFT_MEM]++;
    for (int i = 0; i < EMU_MAX_IO; i++) free(c->inputs[i].data), free(c->answers[i]);
    for (int i = 0; i < 4 * EMU_MAX_IO; i++) free(c->given[i]);
    drop_model(c->model);
    free(c);
    emu_live_contexts--;
    return 0;
}

int rknn_set_core_mask(rknn_context handle, rknn_core_mask mask) {
    int code = emu_enter(EMU_MASK);
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    if (code) return code;
    if (emu_set.cores == 1) return RKNN_ERR_TARGET_PLATFORM_UNMATCH;
    int one = mask && !(mask & (mask - 1)), first = !(mask & (mask + 1)); /* 1, 2, 4; 3, 7 */
    if (mask >> emu_set.cores || !(one || first)) {
        emu_say("Not support core mask: %x, fallback to single core auto mode", mask);
        emu_say(c->model->dynamic ? "rknn_set_core_mask: failed to set dynamic shape model core mask: %x"
                                  : "rknn_set_core_mask: failed to set core mask: %x", mask);
        c->mask = 0;
        return RKNN_ERR_FAIL;
    }
    c->mask = mask;
    return 0;
}

int rknn_set_batch_core_num(rknn_context handle, int n) {
    int code = emu_enter(EMU_BATCH);
    if (!emu_find(handle)) return RKNN_ERR_CTX_INVALID;
    if (code || (n >= 1 && n <= emu_set.cores)) return code;
    emu_say("rknn_set_batch_core_num: failed to set core_num %d", n);
    return RKNN_ERR_FAIL;
}

static void spell(const uint32_t *dims, uint32_t n, const char *between, char *out, size_t room) {
    size_t used = 0;
    *out = 0;
    for (uint32_t i = 0; i < n && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, "%s%u", i ? between : "", dims[i]);
}

static void list_shapes(const context *c, const rknn_tensor_attr *asked) {
    static const char *const layouts[] = {"NCHW", "NHWC", "NC1HWC2", "UNDEFINED"};
    char dims[160];
    const emu_tensor *t = &c->model->inputs[0];
    emu_say("rknn_set_input_shapes error, input name = %s supported input shapes are as follows:", t->name);
    for (uint32_t set = 0; set < c->model->n_shapes; set++) {
        rknn_tensor_attr mine;
        emu_describe(c->model, t, 0, set, t->fmt, &mine);
        spell(mine.dims, mine.n_dims, ",", dims, sizeof dims);
        emu_say("\tshape = [%s], layout = %s", dims, layouts[mine.fmt & 3]);
    }
    spell(asked->dims, asked->n_dims & 15, ", ", dims, sizeof dims);
    emu_say("while get rknn_tensor_attr[0].name = %s, dims = [%s], fmt = %s", asked->name, dims, layouts[asked->fmt & 3]);
}

int rknn_set_input_shapes(rknn_context handle, uint32_t n, rknn_tensor_attr *attrs) {
    int code = emu_enter(EMU_SHAPES);
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    if (code) return code;
    if (!c->model->dynamic) {
        emu_say("rknn_set_input_shapes error, rknn model is static shape type, please export rknn with dynamic_shapes");
        return RKNN_ERR_MODEL_INVALID;
    }
    if (n != c->model->n_input) return RKNN_ERR_PARAM_INVALID;
    for (uint32_t set = 0; set < c->model->n_shapes; set++) {
        int same = 1;
        for (uint32_t i = 0; i < n && same; i++) {
            rknn_tensor_attr mine;
            emu_describe(c->model, &c->model->inputs[i], i, set, c->model->inputs[i].fmt, &mine);
            same = attrs[i].n_dims == mine.n_dims && !memcmp(attrs[i].dims, mine.dims, 4 * mine.n_dims);
        }
        if (same) {
            c->shape_before = c->shape;
            c->shape = set;
            c->shaped = 1;
            return 0;
        }
    }
    list_shapes(c, attrs);
    return RKNN_ERR_FAIL;
}

int rknn_set_input_shape(rknn_context handle, rknn_tensor_attr *attr) { return rknn_set_input_shapes(handle, 1, attr); }

typedef struct { /* the beginning of the vendor's rknn_custom_op */
    uint32_t version;
    int target;
    char op_type[RKNN_MAX_NAME_LEN];
} custom_op;

int rknn_register_custom_ops(rknn_context handle, const custom_op *op, uint32_t n) {
    int code = emu_enter(EMU_CUSTOM);
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    if (code) return code;
    if (!op || n != 1) return RKNN_ERR_PARAM_INVALID;
    memcpy(c->custom_op, op->op_type, sizeof c->custom_op);
    return 0;
}

