/* The emulated librknnrt: contexts, queries, inputs, runs and outputs. Memory for zero copy is in memory.c. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "context.h"

static context *table[4096];
static uint64_t generations[4096];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

context *emu_find(rknn_context handle) {
    pthread_mutex_lock(&lock);
    context *c = table[handle & 4095];
    if (c && c->handle != handle) c = NULL;
    pthread_mutex_unlock(&lock);
    if (!c) emu_misuses[EMU_DEAD]++;
    return c;
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
        fprintf(stderr, "E RKNN: failed to open %s\n", path);
        return RKNN_ERR_FAIL;
    }
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED) return RKNN_ERR_MODEL_INVALID;
    int code = emu_model_read(data, (size_t)info.st_size, model);
    munmap(data, (size_t)info.st_size);
    return code;
}

int rknn_init(rknn_context *out, void *data, uint32_t size, uint32_t flag, rknn_init_extend *extend) {
    int code = emu_enter(EMU_INIT);
    emu_init_flags = flag;
    if (code) return code;
    if (!out || !data) return RKNN_ERR_PARAM_INVALID;
    emu_model *model = calloc(1, sizeof *model);
    if (!model) return RKNN_ERR_MALLOC_FAIL;
    code = size ? emu_model_read(data, size, model) : read_path(data, model);
    if (!code && model->version > emu_set.max_version) {
        fprintf(stderr, "E RKNN: rknn_init, load model failed! Invalid RKNN model version %llu\n", (unsigned long long)model->version);
        code = RKNN_ERR_MODEL_INVALID;
    }
    if (!code && *emu_set.target && *model->target && strcmp(emu_set.target, model->target)) {
        fprintf(stderr, "E RKNN: this model is for %s, not for %s\n", model->target, emu_set.target);
        code = RKNN_ERR_TARGET_PLATFORM_UNMATCH;
    }
    if (!code && flag & RKNN_FLAG_SHARE_WEIGHT_MEM) {
        context *master = extend ? emu_find(extend->ctx) : NULL;
        if (!master) code = RKNN_ERR_CTX_INVALID;
        else model->weight_bytes = 0;
    }
    if (!code) {
        model->users = 1;
        atomic_fetch_add(&emu_dma_bytes, model->weight_bytes);
        code = open_context(out, model, flag);
        if (code) atomic_fetch_sub(&emu_dma_bytes, model->weight_bytes);
        else if (flag & RKNN_FLAG_SHARE_WEIGHT_MEM) emu_find(*out)->lender = extend->ctx;
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
    context *c = emu_find(handle);
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
    if (mask != 0xFFFF && mask >> emu_set.cores) return RKNN_ERR_PARAM_INVALID;
    c->mask = mask;
    return 0;
}

int rknn_set_batch_core_num(rknn_context handle, int n) {
    int code = emu_enter(EMU_BATCH);
    return code ? code : !emu_find(handle) ? RKNN_ERR_CTX_INVALID : n < 1 || n > emu_set.cores ? RKNN_ERR_PARAM_INVALID : 0;
}

int rknn_set_input_shapes(rknn_context handle, uint32_t n, rknn_tensor_attr *attrs) {
    int code = emu_enter(EMU_SHAPES);
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    if (code) return code;
    if (n != c->model->n_input) return RKNN_ERR_PARAM_INVALID;
    for (uint32_t set = 0; set < c->model->n_shapes; set++) {
        int same = 1;
        for (uint32_t i = 0; i < n && same; i++) {
            rknn_tensor_attr mine;
            emu_describe(&c->model->inputs[i], i, set, c->model->inputs[i].fmt, &mine);
            same = attrs[i].n_dims == mine.n_dims && !memcmp(attrs[i].dims, mine.dims, 4 * mine.n_dims);
        }
        if (same) {
            c->shape = set;
            return 0;
        }
    }
    return RKNN_ERR_PARAM_INVALID;
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

int rknn_inputs_set(rknn_context handle, uint32_t n, rknn_input *inputs) {
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    int mine = emu_hold(c), code = emu_enter(EMU_SET);
    for (uint32_t i = 0; !code && i < n; i++) {
        rknn_input *in = &inputs[i];
        if (in->index >= c->model->n_input || !in->buf || in->type >= RKNN_TENSOR_INT4) {
            code = RKNN_ERR_INPUT_INVALID;
            break;
        }
        emu_tensor *t = &c->model->inputs[in->index];
        rknn_tensor_type type = in->pass_through ? t->type : in->type;
        if (in->size != emu_elements(t, c->shape) * emu_type_size(type) || 
            (t->n_dims == 4 && t->fmt != RKNN_TENSOR_UNDEFINED && in->fmt > RKNN_TENSOR_NHWC)) {
            code = RKNN_ERR_INPUT_INVALID;
            break;
        }
        held *h = &c->inputs[in->index];
        if (h->room < in->size) {
            free(h->data);
            h->data = malloc(in->size);
            h->room = in->size;
        }
        memcpy(h->data, in->buf, in->size);
        emu_copied_in += in->size;
        h->view = (emu_view){h->data, type, in->fmt, in->pass_through};
        h->mem = NULL;
        c->fresh = 0;
    }
    emu_let_go(c, mine);
    return code;
}

static uint64_t fold_inputs(context *c, int *missing) {
    uint64_t state = c->model->salt;
    for (uint32_t i = 0; i < c->model->n_input; i++) {
        emu_view view = c->inputs[i].view;
        if (!view.data || (c->inputs[i].mem && !emu_mem_alive(c->inputs[i].mem))) *missing = 1;
        else state = emu_fold(state, i, emu_digest(&c->model->inputs[i], c->shape, view, emu_set.light));
    }
    return state;
}

static void answer(context *c, uint32_t i, rknn_tensor_type type, rknn_tensor_format fmt, void *out) {
    const emu_tensor *t = &c->model->outputs[i];
    if (c->lent) emu_hand_over(t, c->shape, c->answers[i], type, fmt, out);
    else emu_answer(t, c->shape, i, c->state, type, fmt, emu_set.light, out);
}

int rknn_run(rknn_context handle, rknn_run_extend *extend) {
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    int mine = emu_hold(c), code = emu_enter(EMU_RUN), missing = 0, mapped = 0;
    if (!code) {
        uint64_t state = fold_inputs(c, &missing);
        int knows = !*c->model->needs || !strcmp(c->model->needs, c->custom_op);
        code = missing ? RKNN_ERR_INPUT_INVALID : !knows ? RKNN_ERR_FAIL : emu_compute(c);
        if (!code) code = emu_occupy(c->mask);
        for (uint32_t i = 0; i < c->model->n_input; i++) mapped |= c->inputs[i].mem != NULL;
        if (!code) {
            if (mapped && fold_inputs(c, &missing) != state) emu_misuses[EMU_CHANGED]++;
            c->state = state;
            c->fresh = 1;
            if (extend) extend->frame_id = ++c->frame;
            for (uint32_t i = 0; i < c->model->n_output; i++)
                if (c->outputs[i].mem && emu_mem_alive(c->outputs[i].mem))
                    answer(c, i, c->outputs[i].view.type, c->outputs[i].view.fmt, (void *)c->outputs[i].view.data);
        }
    }
    emu_let_go(c, mine);
    return code;
}

int rknn_wait(rknn_context handle, rknn_run_extend *extend) {
    (void)handle, (void)extend;
    return RKNN_ERR_FAIL; /* as on Linux boards */
}

int rknn_outputs_get(rknn_context handle, uint32_t n, rknn_output *outputs, rknn_output_extend *extend) {
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    int mine = emu_hold(c), code = emu_enter(EMU_GET);
    if (!code && !c->fresh) emu_misuses[EMU_UNRUN]++;
    for (uint32_t i = 0; !code && i < n; i++) {
        rknn_output *out = &outputs[i];
        uint32_t index = out->is_prealloc ? out->index : i;
        if (index >= c->model->n_output) {
            code = RKNN_ERR_OUTPUT_INVALID;
            break;
        }
        emu_tensor *t = &c->model->outputs[index];
        rknn_tensor_type type = out->want_float ? RKNN_TENSOR_FLOAT32 : t->type;
        uint32_t size = (uint32_t)(emu_elements(t, c->shape) * emu_type_size(type));
        if (!out->is_prealloc || emu_set.own_outputs) {
            out->buf = malloc(size);
            out->size = size;
            out->index = index;
            c->unreleased++;
        } else if (!out->buf || out->size < size) {
            code = RKNN_ERR_OUTPUT_INVALID;
            break;
        }
        answer(c, index, type, t->fmt, out->buf);
        emu_copied_out += size;
    }
    if (extend) extend->frame_id = c->frame;
    emu_let_go(c, mine);
    return code;
}

int rknn_outputs_release(rknn_context handle, uint32_t n, rknn_output *outputs) {
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    int mine = emu_hold(c), code = emu_enter(EMU_RELEASE);
    for (uint32_t i = 0; i < n; i++)
        if ((!outputs[i].is_prealloc || emu_set.own_outputs) && outputs[i].buf) {
            free(outputs[i].buf);
            outputs[i].buf = NULL;
            c->unreleased--;
        }
    emu_let_go(c, mine);
    return code;
}
