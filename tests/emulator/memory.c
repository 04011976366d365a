/* Zero-copy memory of the emulated runtime: memfds, so that a file descriptor exists as it does for a dma-buf. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "context.h"

/* All memory that is alive, and whose it is: what is freed twice or used after its context is counted as misuse. */
typedef struct entry {
    struct entry *next;
    rknn_tensor_mem *mem;
    uint64_t owner;
} entry;
static entry *live;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void enter(rknn_tensor_mem *mem, uint64_t owner) {
    entry *e = malloc(sizeof *e);
    pthread_mutex_lock(&lock);
    *e = (entry){live, mem, owner};
    live = e;
    pthread_mutex_unlock(&lock);
    emu_live_mems++;
}

/* Whether this memory is alive; with an owner, whether it is that context's, and it is taken out of the list. */
static int alive(const rknn_tensor_mem *mem, uint64_t owner) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (entry **at = &live; *at; at = &(*at)->next)
        if ((*at)->mem == mem && (!owner || (*at)->owner == owner)) {
            entry *e = *at;
            found = 1;
            if (owner) *at = e->next, free(e);
            break;
        }
    pthread_mutex_unlock(&lock);
    if (!found) emu_misuses[EMU_DEAD_MEM]++;
    return found;
}

int emu_mem_alive(const rknn_tensor_mem *mem) { return alive(mem, 0); }

int emu_mems_of(uint64_t owner) {
    int n = 0;
    pthread_mutex_lock(&lock);
    for (entry *e = live; e; e = e->next) n += e->owner == owner;
    pthread_mutex_unlock(&lock);
    return n;
}

rknn_tensor_mem *rknn_create_mem2(rknn_context handle, uint64_t size, uint64_t flags) {
    (void)flags;
    if (emu_enter(EMU_CREATE_MEM) || !emu_find(handle)) return NULL;
    if (!size) emu_say("rknn_create_mem, invalid size: 0");
    if (size > INT32_MAX) emu_say("failed to map memory, errno: Cannot allocate memory");
    if (!size || size > INT32_MAX) return NULL;
    rknn_tensor_mem *mem = calloc(1, sizeof *mem);
    int fd = memfd_create("rknn-mem", MFD_CLOEXEC);
    if (!mem || fd < 0 || ftruncate(fd, (off_t)size)) goto fail;
    mem->virt_addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mem->virt_addr == MAP_FAILED) goto fail;
    mem->fd = fd;
    mem->size = (uint32_t)size;
    mem->phys_addr = 0xFF000000u; /* some address of the NPU's own */
    mem->flags = 1; /* allocated inside */
    enter(mem, handle);
    mem->offset = emu_set.offset;
    if (emu_set.null_memory) munmap(mem->virt_addr, size), mem->virt_addr = NULL;
    return mem;
fail:
    if (fd >= 0) close(fd);
    free(mem);
    return NULL;
}

rknn_tensor_mem *rknn_create_mem(rknn_context handle, uint32_t size) { return rknn_create_mem2(handle, size, 0); }

static rknn_tensor_mem *import(rknn_context handle, void *address, uint32_t size, int fd, int32_t offset) {
    if (emu_enter(EMU_CREATE_MEM) || !emu_find(handle)) return NULL;
    rknn_tensor_mem *mem = calloc(1, sizeof *mem);
    if (mem) {
        *mem = (rknn_tensor_mem){.virt_addr = address, .fd = fd, .offset = offset, .size = size};
        enter(mem, handle);
    }
    return mem;
}

rknn_tensor_mem *rknn_create_mem_from_fd(rknn_context handle, int32_t fd, void *address, uint32_t size, int32_t offset) {
    return fd < 0 || !address ? NULL : import(handle, address, size, fd, offset);
}

rknn_tensor_mem *rknn_create_mem_from_phys(rknn_context handle, uint64_t phys, void *address, uint32_t size) {
    (void)phys;
    return import(handle, address, size, -1, 0);
}

int rknn_destroy_mem(rknn_context handle, rknn_tensor_mem *mem) {
    int code = emu_enter(EMU_DESTROY_MEM);
    context *c = emu_peek(handle);
    if (!mem) return RKNN_ERR_PARAM_INVALID;
    if (code) return code;
    if (!alive(mem, handle)) return RKNN_ERR_PARAM_INVALID;
    int used = 0;
    for (int i = 0; c && i < EMU_MAX_IO; i++) {
        if (c->inputs[i].mem == mem) c->inputs[i].mem = NULL, c->inputs[i].view.data = NULL, used = 1;
        if (c->outputs[i].mem == mem) c->outputs[i].mem = NULL, used = 1;
        if (c->inputs[i].last == mem) c->inputs[i].last = NULL, c->inputs[i].gone = 1;
        if (c->outputs[i].last == mem) c->outputs[i].last = NULL, c->outputs[i].gone = 1;
    }
    if (used && atomic_load(&c->busy)) emu_misuses[EMU_BUSY_MEM]++; /* the NPU may be reading or writing there */
    if (mem->flags & 1) {
        if (mem->virt_addr) munmap(mem->virt_addr, mem->size);
        close(mem->fd);
    }
    free(mem);
    emu_live_mems--;
    return c ? 0 : RKNN_ERR_CTX_INVALID;
}

int rknn_set_io_mem(rknn_context handle, rknn_tensor_mem *mem, rknn_tensor_attr *attr) {
    context *c = emu_find(handle);
    if (!c) return RKNN_ERR_CTX_INVALID;
    int mine = emu_hold(c), code = emu_enter(EMU_IO_MEM);
    held *slot = NULL;
    const emu_tensor *t = NULL;
    int input = 0;
    if (!code && mem && attr) {
        uint32_t i = attr->index;
        if (i < c->model->n_input && !strcmp(attr->name, c->model->inputs[i].name)) slot = &c->inputs[i], t = &c->model->inputs[i], input = 1;
        else if (i < c->model->n_output && !strcmp(attr->name, c->model->outputs[i].name))
            slot = &c->outputs[i], t = &c->model->outputs[i];
    }
    if (!code && (!slot || !emu_mem_alive(mem))) code = RKNN_ERR_PARAM_INVALID;
    if (!code) emu_need_shapes(c);
    if (!code && input && attr->fmt == RKNN_TENSOR_NC1HWC2 && !attr->pass_through) {
        emu_say("NC1HWC2 input format only support pass_through == 1");
        code = RKNN_ERR_FAIL;
    }
    if (!code && input) { /* outputs are not checked */
        uint64_t need = (uint64_t)emu_packed_elements(t, c->shape, attr->fmt) * emu_type_size(attr->type);
        if (mem->size < need) {
            emu_say("rknn_set_io_mem, input memory size(%u) < model input size(%llu)", mem->size, (unsigned long long)need);
            code = RKNN_ERR_FAIL;
        }
    }
    if (!code) {
        slot->mem = mem;
        slot->last = mem;
        slot->bound = 1;
        slot->gone = 0;
        slot->view = (emu_view){(char *)mem->virt_addr + mem->offset, attr->type, attr->fmt, attr->pass_through};
    }
    emu_let_go(c, mine);
    return code;
}

int rknn_mem_sync(rknn_context handle, rknn_tensor_mem *mem, rknn_mem_sync_mode mode) {
    int code = emu_enter(EMU_SYNC);
    if (code) return code;
    if (!emu_find(handle)) return RKNN_ERR_CTX_INVALID;
    (void)mode; /* any value is taken */
    return !mem || !emu_mem_alive(mem) ? RKNN_ERR_PARAM_INVALID : 0;
}
