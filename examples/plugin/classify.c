/* Classify the digits in C: classify PLUGIN MODEL IMAGES. Images are float32, 8 x 8, one after the other; prints a label each.
 *
 * The plugin is libonnxruntime_ep_rknn.so, the model what `ort-rknn convert --plugin` made. onnxruntime's own header
 * onnxruntime_c_api.h (1.24 or newer) does instead of ort_abi.h, which restates a part of it for this build.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ort_abi.h"

const OrtApiBase *OrtGetApiBase(void);

static const OrtApi *api;

static void check(OrtStatus *status) {
    if (!status) return;
    fprintf(stderr, "onnxruntime: %s\n", api->GetErrorMessage(status));
    api->ReleaseStatus(status);
    exit(1);
}

int main(int count, char **arguments) {
    static const int64_t dims[] = {1, 1, 8, 8};
    static const char *const inputs[] = {"image"}, *const outputs[] = {"probabilities"};
    static const char *const keys[] = {"performance_hint"}, *const values[] = {"latency"};
    OrtEnv *env = NULL;
    OrtSession *session = NULL;
    OrtSessionOptions *options = NULL;
    OrtMemoryInfo *memory = NULL;
    const OrtEpDevice *const *devices = NULL, *npu = NULL;
    size_t n = 0;
    float image[64];
    FILE *file = count == 4 ? fopen(arguments[3], "rb") : NULL;
    if (!file) return fprintf(stderr, "classify PLUGIN MODEL IMAGES\n"), 2;
    if (!(api = OrtGetApiBase()->GetApi(24))) return fprintf(stderr, "onnxruntime 1.24 or newer is needed\n"), 1;
    check(api->CreateEnv(ORT_ERROR, "classify", &env));
    check(api->RegisterExecutionProviderLibrary(env, "rknn", arguments[1]));
    check(api->GetEpDevices(env, &devices, &n));
    for (size_t i = 0; i < n; i++)
        if (!strcmp(api->EpDevice_EpName(devices[i]), "RKNNExecutionProvider")) npu = devices[i];
    if (!npu) return fprintf(stderr, "there is no NPU here; python -m onnxruntime_ep_rknn says why\n"), 1;
    check(api->CreateSessionOptions(&options));
    check(api->SessionOptionsAppendExecutionProvider_V2(options, env, &npu, 1, keys, values, 1));
    check(api->CreateSession(env, arguments[2], options, &session));
    check(api->CreateCpuMemoryInfo(ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT, &memory));
    while (fread(image, sizeof image, 1, file)) {
        OrtValue *in = NULL, *out = NULL;
        void *data = NULL;
        int best = 0;
        check(api->CreateTensorWithDataAsOrtValue(memory, image, sizeof image, dims, 4, ONNX_FLOAT, &in));
        check(api->Run(session, NULL, inputs, (const OrtValue *const *)&in, 1, outputs, 1, &out));
        check(api->GetTensorMutableData(out, &data));
        for (int i = 1; i < 10; i++)
            if (((const float *)data)[i] > ((const float *)data)[best]) best = i;
        printf("%d\n", best);
        api->ReleaseValue(in);
        api->ReleaseValue(out);
    }
    fclose(file);
    api->ReleaseMemoryInfo(memory);
    api->ReleaseSession(session);
    api->ReleaseSessionOptions(options);
    check(api->UnregisterExecutionProviderLibrary(env, "rknn")); /* after the last session */
    api->ReleaseEnv(env);
    return 0;
}
