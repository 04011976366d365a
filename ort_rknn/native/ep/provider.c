/* One session's provider: it takes the EPContext nodes of compiled models and makes a segment of each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ep.h"

#define KEY_BUNDLE "ort_rknn.bundle"

typedef struct {
    OrtEp base;
    const ep_ort *ort;
    const OrtLogger *logger;
    ep_options options;
    const ep_target *here; /* NULL: not known */
    ep_runtime *runtime;
    ep_failure refused; /* why this model cannot be run, found when its nodes were looked at */
} provider;

typedef struct {
    OrtNodeComputeInfo base;
    ep_segment segment;
    int forks;
} computation;

static const char *name_of(const OrtEp *ep) {
    (void)ep;
    return EP_NAME;
}

static int keep_failure(const ep_ort *ort, OrtStatus *status, ep_failure *f) {
    if (!status) return 0;
    ep_fail(f, ort->api->GetErrorCode(status), "%s", ort->api->GetErrorMessage(status));
    ort->api->ReleaseStatus(status);
    return f->code;
}

/* onnxruntime sees the first form in a bundle; the table of all of them stands in the metadata. */
static void look_at_bundle(provider *p, const OrtGraph *graph) {
    const OrtApi *api = p->ort->api;
    OrtModelMetadata *metadata = NULL;
    OrtAllocator *allocator = NULL;
    char *table = NULL;
    ep_failure ignored;
    if (keep_failure(p->ort, api->Graph_GetModelMetadata(graph, &metadata), &ignored)) return;
    if (!keep_failure(p->ort, api->GetAllocatorWithDefaultOptions(&allocator), &ignored) &&
        !keep_failure(p->ort, api->ModelMetadataLookupCustomMetadataMap(metadata, allocator, KEY_BUNDLE, &table),
                      &ignored) &&
        table) {
        ep_check_bundle(table, &p->refused);
        keep_failure(p->ort, api->AllocatorFree(allocator, table), &ignored);
    }
    api->ReleaseModelMetadata(metadata);
}

static OrtStatus *get_capability(OrtEp *ep, const OrtGraph *graph, OrtEpGraphSupportInfo *info) {
    provider *p = (provider *)ep;
    const OrtApi *api = p->ort->api;
    const OrtNode *parent = NULL, **nodes;
    size_t count = 0;
    OrtStatus *status = api->Graph_GetParentNode(graph, &parent);
    if (status || parent) return status; /* the bodies of If and Loop are the CPU's */
    if ((status = api->Graph_GetNumNodes(graph, &count)) || !count) return status;
    if (!(nodes = calloc(count, sizeof *nodes))) return api->CreateStatus(ORT_FAIL, EP_NAME ": no memory left");
    status = api->Graph_GetNodes(graph, nodes, count);
    OrtNodeFusionOptions fusion = {.ort_version_supported = p->ort->version, .drop_constant_initializers = false};
    bool ours = false;
    for (size_t i = 0; !status && i < count; i++)
        if (ep_is_ours(p->ort, nodes[i])) {
            ours = true;
            status = p->ort->ep->EpGraphSupportInfo_AddNodesToFuse(info, &nodes[i], 1, &fusion);
        }
    free(nodes);
    if (!status && ours && !p->refused.code) look_at_bundle(p, graph);
    return status;
}

static OrtStatus *create_state(OrtNodeComputeInfo *info, OrtNodeComputeContext *context, void **state) {
    (void)context;
    *state = info;
    return NULL;
}

static OrtStatus *compute(OrtNodeComputeInfo *info, void *state, OrtKernelContext *kernel) {
    computation *c = (computation *)info;
    (void)state;
    if (c->forks != ep_forked())
        return c->segment.ort->api->CreateStatus(ORT_ENGINE_ERROR,
                                                 "this session was made before fork(); its NPU contexts stayed in the "
                                                 "parent process. Make a new session in the child");
    return ep_compute(&c->segment, kernel);
}

static void release_state(OrtNodeComputeInfo *info, void *state) { (void)info, (void)state; }

/* The node's tensors, and where each of them is among the fused node's. */
static int describe(const ep_ort *ort, const OrtNode *node, const OrtNode *fused, bool inputs, uint32_t *count,
                    ep_tensor **tensors, ep_failure *f) {
    const OrtApi *api = ort->api;
    size_t n = 0, m = 0;
    if (keep_failure(ort, (inputs ? api->Node_GetNumInputs : api->Node_GetNumOutputs)(node, &n), f) ||
        keep_failure(ort, (inputs ? api->Node_GetNumInputs : api->Node_GetNumOutputs)(fused, &m), f))
        return f->code;
    const OrtValueInfo **values = calloc(n + m + 1, sizeof *values);
    *tensors = calloc(n + 1, sizeof **tensors);
    if (!values || !*tensors) {
        free(values);
        return ep_no_memory(f);
    }
    *count = (uint32_t)n;
    keep_failure(ort, (inputs ? api->Node_GetInputs : api->Node_GetOutputs)(node, values, n), f);
    if (!f->code) keep_failure(ort, (inputs ? api->Node_GetInputs : api->Node_GetOutputs)(fused, values + n, m), f);
    for (size_t i = 0; !f->code && i < n; i++) {
        ep_tensor *t = &(*tensors)[i];
        t->place = SIZE_MAX;
        if (!values[i]) {
            ep_fail(f, ORT_INVALID_GRAPH, "a compiled segment lacks its %s %zu", inputs ? "input" : "output", i);
            break;
        }
        if (ep_describe_tensor(ort, values[i], t, f)) break;
        for (size_t k = 0; k < m && t->place == SIZE_MAX; k++) {
            const char *name = NULL;
            if (values[n + k] && !keep_failure(ort, api->GetValueInfoName(values[n + k], &name), f) && name &&
                !strcmp(name, t->name))
                t->place = k;
        }
        if (!f->code && inputs && t->place == SIZE_MAX)
            ep_fail(f, ORT_INVALID_GRAPH, "onnxruntime does not hand over '%s' to the segment that reads it", t->name);
    }
    free(values);
    return f->code;
}

static int make_segment(provider *p, const OrtGraph *graph, const OrtNode *fused, ep_segment *s, ep_failure *f) {
    const OrtApi *api = p->ort->api;
    const OrtNode *node = NULL;
    const char *path = NULL;
    size_t count = 0;
    s->ort = p->ort;
    s->logger = p->logger;
    s->options = &p->options;
    s->runtime = p->runtime;
    s->cores = p->here ? p->here->cores : 3; /* rk3588, as most boards */
    if (keep_failure(p->ort, api->Graph_GetNumNodes(graph, &count), f)) return f->code;
    if (count != 1)
        return ep_fail(f, ORT_INVALID_GRAPH, EP_NAME " compiles one EPContext node at a time, not %zu", count);
    if (keep_failure(p->ort, api->Graph_GetNodes(graph, &node, 1), f) ||
        keep_failure(p->ort, api->Graph_GetModelPath(graph, &path), f))
        return f->code;
    if (ep_read_code(p->ort, node, path, &p->options, p->here, &s->code, f)) return f->code;
    ep_plan *plan = &s->plan;
    if (describe(p->ort, node, fused, true, &plan->n_inputs, &plan->inputs, f) ||
        describe(p->ort, node, fused, false, &plan->n_outputs, &plan->outputs, f))
        return f->code;
    plan->given = calloc(plan->n_inputs + 1, sizeof *plan->given);
    plan->given_type = calloc(plan->n_inputs + 1, sizeof *plan->given_type);
    plan->got = calloc(plan->n_outputs + 1, sizeof *plan->got);
    plan->got_type = calloc(plan->n_outputs + 1, sizeof *plan->got_type);
    plan->got_nhwc = calloc(plan->n_outputs + 1, sizeof *plan->got_nhwc);
    if (!plan->given || !plan->given_type || !plan->got || !plan->got_type || !plan->got_nhwc) return ep_no_memory(f);
    if (ep_open_segment(s, f)) {
        char text[sizeof f->text];
        memcpy(text, f->text, sizeof text);
        if (!strstr(text, s->code.name))
            ep_fail(f, (OrtErrorCode)f->code, "segment %.100s: %.1400s", s->code.name, text);
    }
    return f->code;
}

static void free_computation(computation *c) {
    if (!c) return;
    if (c->forks == ep_forked()) ep_close_segment(&c->segment); /* a child leaves what is its parent's */
    ep_free_plan(&c->segment.plan);
    ep_free_code(&c->segment.code);
    free(c);
}

static OrtStatus *compile(OrtEp *ep, const OrtGraph **graphs, const OrtNode **fused, size_t count,
                          OrtNodeComputeInfo **infos, OrtNode **contexts) {
    provider *p = (provider *)ep;
    ep_failure f = p->refused;
    (void)contexts;
    if (!f.code && p->options.writes_context)
        ep_fail(&f, ORT_NOT_IMPLEMENTED,
                "this model is compiled already: " EP_NAME " writes no other (ep.context_enable). Use the file "
                "as it is; a plain ONNX model is compiled by 'ort-rknn convert'");
    for (size_t i = 0; i < count; i++) infos[i] = NULL;
    for (size_t i = 0; !f.code && i < count; i++) {
        computation *c = calloc(1, sizeof *c);
        if (!c) {
            ep_no_memory(&f);
            break;
        }
        c->base = (OrtNodeComputeInfo){p->ort->version, create_state, compute, release_state};
        c->forks = ep_forked();
        if (make_segment(p, graphs[i], fused[i], &c->segment, &f)) free_computation(c);
        else infos[i] = &c->base;
    }
    for (size_t i = 0; f.code && i < count; i++) {
        free_computation((computation *)infos[i]);
        infos[i] = NULL;
    }
    return ep_status(p->ort, &f);
}

static void release_infos(OrtEp *ep, OrtNodeComputeInfo **infos, size_t count) {
    (void)ep;
    for (size_t i = 0; i < count; i++) free_computation((computation *)infos[i]);
}

OrtStatus *ep_new_provider(const ep_ort *ort, const ep_machine *machine, const OrtSessionOptions *options,
                           const OrtLogger *logger, OrtEp **made) {
    ep_failure f = {.code = 0};
    provider *p = calloc(1, sizeof *p);
    *made = NULL;
    if (!p) return ort->api->CreateStatus(ORT_FAIL, EP_NAME ": no memory left");
    p->base.ort_version_supported = ort->version;
    p->base.GetName = name_of;
    p->base.GetCapability = get_capability;
    p->base.Compile = compile;
    p->base.ReleaseNodeComputeInfos = release_infos;
    p->ort = ort;
    p->logger = logger;
    if (!ep_read_options(ort, options, &p->options, &f)) {
        const ep_target *asked = p->options.target, *board = machine->target;
        p->here = board ? board : asked;
        if (asked && board && strcmp(asked->family, board->family))
            ep_fail(&f, ORT_INVALID_ARGUMENT,
                    "target '%s' was asked for, this board is %s: leave the option target out", asked->name,
                    board->name);
        else p->runtime = ep_open_runtime(p->options.runtime_library, &f);
    }
    if (f.code) {
        ep_free_provider(&p->base);
        return ep_status(ort, &f);
    }
    *made = &p->base;
    return NULL;
}

void ep_free_provider(OrtEp *ep) {
    provider *p = (provider *)ep;
    if (!p) return;
    ep_free_options(&p->options);
    free(p);
}
