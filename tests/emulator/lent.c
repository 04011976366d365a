/* Arithmetic lent to the emulated runtime by the program that loaded it.
 *
 * What came in through the runtime's calls goes out to the lender as the NPU stores it, in ONNX order, and his answers
 * come back the same way: types, layouts, copies and cores stay the emulator's, so that a whole model can be compared.
 */
#include <stdlib.h>
#include <string.h>

#include "context.h"

static _Atomic(emu_arithmetic) lender;

void emu_lend(emu_arithmetic lent) { atomic_store(&lender, lent); }

uint64_t emu_identity(const uint8_t *data, size_t size) {
    if (!atomic_load(&lender)) return 0; /* nobody will ask, and a large file need not come into memory */
    uint32_t table[256], crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
        table[i] = value;
    }
    for (size_t i = 0; i < size; i++) crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xFF];
    return (uint64_t)size << 32 | (crc ^ 0xFFFFFFFFu);
}

static emu_array array_of(const emu_tensor *t, uint32_t shape, void *data) {
    emu_array out = {.data = data, .name = t->name, .type = t->type, .n_dims = t->n_dims, .zp = t->zp};
    for (uint32_t i = 0; i < t->n_dims; i++) out.dims[i] = t->dims[shape][i];
    out.scale = t->qnt == RKNN_TENSOR_QNT_AFFINE_ASYMMETRIC ? t->scale : 0;
    return out;
}

static size_t bytes_of(const emu_tensor *t, uint32_t shape) { return emu_elements(t, shape) * emu_type_size(t->type); }

int emu_compute(context *c) {
    emu_arithmetic lent = atomic_load(&lender);
    c->lent = 0;
    if (!lent) return 0;
    emu_model *m = c->model;
    emu_array inputs[EMU_MAX_IO], outputs[EMU_MAX_IO];
    int known = -1;
    for (uint32_t i = 0; i < m->n_output; i++) {
        void *room = realloc(c->answers[i], bytes_of(&m->outputs[i], c->shape));
        if (!room) return RKNN_ERR_MALLOC_FAIL;
        c->answers[i] = room;
        outputs[i] = array_of(&m->outputs[i], c->shape, room);
    }
    uint32_t taken = 0;
    for (; taken < m->n_input; taken++) {
        emu_view view = c->inputs[taken].view;
        if (c->inputs[taken].mem) view.data = c->inputs[taken].mem->virt_addr;
        inputs[taken] = array_of(&m->inputs[taken], c->shape, malloc(bytes_of(&m->inputs[taken], c->shape)));
        if (!inputs[taken].data) break;
        if (view.data) emu_take(&m->inputs[taken], c->shape, view, inputs[taken].data);
        else memset(inputs[taken].data, 0, bytes_of(&m->inputs[taken], c->shape));
    }
    if (taken == m->n_input) known = lent(m->identity, m->n_input, inputs, m->n_output, outputs);
    while (taken-- > 0) free(inputs[taken].data);
    c->lent = known == 0;
    return known == 0 || known == 1 ? 0 : RKNN_ERR_FAIL;
}
