// Classify the digits in C++: classify PLUGIN MODEL IMAGES. As classify.c, with every object released by its owner.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#define _Static_assert static_assert
extern "C" {
#include "ort_abi.h"
const OrtApiBase *OrtGetApiBase(void);
}

namespace {

const OrtApi &api = *OrtGetApiBase()->GetApi(24); // onnxruntime 1.24 or newer

void check(OrtStatus *status) {
    if (!status) return;
    std::string text = api.GetErrorMessage(status);
    api.ReleaseStatus(status);
    throw std::runtime_error("onnxruntime: " + text);
}

template <typename T> struct Release {
    void (*release)(T *);
    void operator()(T *value) const { release(value); }
};
template <typename T> using Owned = std::unique_ptr<T, Release<T>>;

template <typename T, typename Make> Owned<T> make(void (*release)(T *), Make make) {
    T *value = nullptr;
    check(make(&value));
    return Owned<T>(value, Release<T>{release});
}

void classify(const char *plugin, const char *model, std::istream &images) {
    auto env = make<OrtEnv>(api.ReleaseEnv, [](auto **out) { return api.CreateEnv(ORT_ERROR, "classify", out); });
    check(api.RegisterExecutionProviderLibrary(env.get(), "rknn", plugin));
    const OrtEpDevice *const *devices = nullptr;
    size_t count = 0;
    check(api.GetEpDevices(env.get(), &devices, &count));
    auto npu = std::find_if(devices, devices + count, [](const OrtEpDevice *device) {
        return !std::strcmp(api.EpDevice_EpName(device), "RKNNExecutionProvider");
    });
    if (npu == devices + count) throw std::runtime_error("there is no NPU here; python -m onnxruntime_ep_rknn says why");
    auto options = make<OrtSessionOptions>(api.ReleaseSessionOptions, [](auto **out) { return api.CreateSessionOptions(out); });
    check(api.SessionOptionsAppendExecutionProvider_V2(options.get(), env.get(), npu, 1, nullptr, nullptr, 0));
    auto session = make<OrtSession>(api.ReleaseSession, [&](auto **out) { return api.CreateSession(env.get(), model, options.get(), out); });
    auto memory = make<OrtMemoryInfo>(api.ReleaseMemoryInfo, [](auto **out) {
        return api.CreateCpuMemoryInfo(ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT, out);
    });
    const int64_t dims[] = {1, 1, 8, 8};
    const char *const inputs[] = {"image"}, *const outputs[] = {"probabilities"};
    std::vector<float> image(64);
    while (images.read(reinterpret_cast<char *>(image.data()), 64 * sizeof(float))) {
        auto in = make<OrtValue>(api.ReleaseValue, [&](auto **out) {
            return api.CreateTensorWithDataAsOrtValue(memory.get(), image.data(), 64 * sizeof(float), dims, 4, ONNX_FLOAT, out);
        });
        const OrtValue *given = in.get();
        auto result = make<OrtValue>(api.ReleaseValue, [&](auto **out) {
            return api.Run(session.get(), nullptr, inputs, &given, 1, outputs, 1, out);
        });
        void *data = nullptr;
        check(api.GetTensorMutableData(result.get(), &data));
        const float *p = static_cast<const float *>(data);
        std::cout << std::max_element(p, p + 10) - p << '\n';
    }
}

} // namespace

int main(int count, char **arguments) {
    std::ifstream images(count == 4 ? arguments[3] : "", std::ios::binary);
    if (!images) return std::cerr << "classify PLUGIN MODEL IMAGES\n", 2;
    try {
        classify(arguments[1], arguments[2], images);
    } catch (const std::exception &error) {
        return std::cerr << error.what() << '\n', 1;
    }
    return 0;
}
