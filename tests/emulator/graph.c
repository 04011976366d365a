/* What a real .rknn file's graph says of its outputs: the bytes they take on the NPU and which operator makes them.
 *
 * The FlatBuffer's slots are those that converters/ort_rknn_converters/rknn_format/graph.py reads. Every offset is checked; a
 * graph that is in another form leaves the model as it is.
 */
#include <stdio.h>
#include <string.h>

#include "emulator.h"

typedef struct {
    const uint8_t *at;
    uint64_t size;
} bytes;

static uint32_t word(bytes b, uint64_t at) {
    uint32_t value = 0;
    if (at + 4 <= b.size) memcpy(&value, b.at + at, 4);
    return value;
}

/* Where field `slot` of the table at `table` is; 0: it is not there. */
static uint64_t field(bytes b, uint64_t table, int slot) {
    uint16_t length, offset;
    if (!table || table + 4 > b.size) return 0;
    int64_t vtable = (int64_t)table - (int32_t)word(b, table);
    if (vtable < 0 || vtable + 4 > (int64_t)b.size) return 0;
    memcpy(&length, b.at + vtable, 2);
    if (6 + 2 * slot > length || vtable + length > (int64_t)b.size) return 0;
    memcpy(&offset, b.at + vtable + 4 + 2 * slot, 2);
    return offset && table + offset + 4 <= b.size ? table + offset : 0;
}

static uint64_t followed(bytes b, uint64_t at) {
    uint64_t there = at ? at + word(b, at) : 0;
    return there && there + 4 <= b.size ? there : 0;
}

/* A vector and its element i: tables are followed. */
static uint32_t length_of(bytes b, uint64_t vector) {
    uint32_t n = vector ? word(b, vector) : 0;
    return vector && vector + 4 + 4ull * n <= b.size ? n : 0;
}

static uint64_t table_of(bytes b, uint64_t vector, uint32_t i) { return followed(b, vector + 4 + 4ull * i); }

static void text_of(bytes b, uint64_t table, int slot, char *out, size_t room) {
    uint64_t at = followed(b, field(b, table, slot));
    uint32_t n = at ? word(b, at) : 0;
    *out = 0;
    if (at && at + 4 + n <= b.size) snprintf(out, room, "%.*s", (int)n, (const char *)b.at + at + 4);
}

/* The output this tensor is; NULL for all others. */
static emu_tensor *output_named(emu_model *model, const char *name) {
    for (uint32_t i = 0; i < model->n_output; i++)
        if (!strcmp(model->outputs[i].name, name)) return &model->outputs[i];
    return NULL;
}

static void read_subgraph(bytes b, uint64_t graph, uint32_t shape, emu_model *model) {
    uint64_t tensors = followed(b, field(b, graph, 0)), nodes = followed(b, field(b, graph, 1));
    char name[RKNN_MAX_NAME_LEN];
    for (uint32_t i = 0; i < length_of(b, tensors); i++) {
        uint64_t tensor = table_of(b, tensors, i), size = field(b, tensor, 12);
        text_of(b, tensor, 5, name, sizeof name);
        emu_tensor *t = output_named(model, name);
        if (t && size) t->stored[shape] = word(b, size);
    }
    for (uint32_t i = 0; i < length_of(b, nodes); i++) {
        uint64_t node = table_of(b, nodes, i), ids = followed(b, field(b, node, 5));
        for (uint32_t k = 0; k < length_of(b, ids); k++) {
            uint32_t id = word(b, ids + 4 + 4ull * k);
            if (id >= length_of(b, tensors)) continue;
            text_of(b, table_of(b, tensors, id), 5, name, sizeof name);
            emu_tensor *t = output_named(model, name);
            if (t) text_of(b, node, 1, t->made_by, sizeof t->made_by);
        }
    }
}

void emu_graph_read(const uint8_t *graph, uint64_t size, emu_model *model) {
    bytes b = {graph, size};
    if (size < 16 || memcmp(graph + 4, "RKNN", 4)) return;
    char kind[32];
    uint64_t root = word(b, 0), graphs = followed(b, field(b, root, 2));
    text_of(b, root, 16, kind, sizeof kind);
    model->dynamic = !strcmp(kind, "dynamic_shape");
    for (uint32_t i = 0; i < length_of(b, graphs) && i < EMU_MAX_SHAPES; i++) read_subgraph(b, table_of(b, graphs, i), i, model);
}
