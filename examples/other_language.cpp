// The preprocessing of edgeclf with OpenCV, and its model with OpenVINO, checked against golden tensors.
//
//   edgeclf export RUN --format onnx --golden golden
//   g++ -O2 -std=c++17 examples/other_language.cpp -o other_language $(pkg-config --cflags --libs opencv4 openvino)
//   ./other_language RUN/model.fp32.onnx golden
//
// preprocess() is what a program needs; docs/other-languages.md has its steps in words.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <openvino/openvino.hpp>

struct Preprocessing {
    int height, width;
    std::string resize;  // "crop", "stretch" or "letterbox"
    double crop;         // share of the sides that is kept
    std::string color;   // "RGB" or "BGR"
};

// Halve with INTER_AREA, on even sizes, while an image is at least twice too large; then one exact linear step.
cv::Mat shrink(cv::Mat image, int height, int width) {
    while (image.rows >= 2 * height || image.cols >= 2 * width) {
        int by_y = image.rows >= 2 * height ? 2 : 1, by_x = image.cols >= 2 * width ? 2 : 1;
        image = image(cv::Rect(0, 0, image.cols / by_x * by_x, image.rows / by_y * by_y));
        cv::Mat half;
        cv::resize(image, half, cv::Size(image.cols / by_x, image.rows / by_y), 0, 0, cv::INTER_AREA);
        image = half;
    }
    if (image.rows != height || image.cols != width) {
        cv::Mat exact;
        cv::resize(image, exact, cv::Size(width, height), 0, 0, cv::INTER_LINEAR_EXACT);
        image = exact;
    }
    return image;
}

// Integer arithmetic; nearbyint rounds halves to even, as Python's round does.
cv::Mat center(const cv::Mat& image, const Preprocessing& spec) {
    int height = image.rows, width = image.cols;
    if (spec.resize == "crop") {
        height = std::min(image.rows, std::max(1, image.cols * spec.height / spec.width));
        width = std::min(image.cols, std::max(1, image.rows * spec.width / spec.height));
    }
    height = std::max(1, static_cast<int>(std::nearbyint(height * spec.crop)));
    width = std::max(1, static_cast<int>(std::nearbyint(width * spec.crop)));
    return image(cv::Rect((image.cols - width) / 2, (image.rows - height) / 2, width, height));
}

cv::Mat letterbox(const cv::Mat& image, const Preprocessing& spec) {
    int height = std::min(spec.height, std::max(1, image.rows * spec.width / image.cols));
    int width = std::min(spec.width, std::max(1, image.cols * spec.height / image.rows));
    cv::Mat canvas = cv::Mat::zeros(spec.height, spec.width, CV_8UC3);
    cv::Rect inner((spec.width - width) / 2, (spec.height - height) / 2, width, height);
    shrink(image, height, width).copyTo(canvas(inner));
    return canvas;
}

// An image as cv::imread gives it, BGR, of any size -> float32 [1, height, width, 3], values 0 to 255.
cv::Mat preprocess(const cv::Mat& image, const Preprocessing& spec) {
    cv::Mat sized = spec.resize == "letterbox" ? letterbox(image, spec) : shrink(center(image, spec), spec.height, spec.width);
    if (spec.color == "RGB") {
        cv::Mat turned;
        cv::cvtColor(sized, turned, cv::COLOR_BGR2RGB);
        sized = turned;
    }
    cv::Mat pixels;
    sized.convertTo(pixels, CV_32F);  // also makes it contiguous
    const int shape[] = {1, spec.height, spec.width, 3};
    return cv::Mat(4, shape, CV_32F, pixels.data).clone();
}

// Read a file of numpy: a magic word, the length of a header, the header, and the values.
std::vector<float> read_npy(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0 || bytes.find("'<f4'") == std::string::npos)
        throw std::runtime_error(path + " is not a float32 file of numpy");
    size_t start = 10 + static_cast<unsigned char>(bytes[8]) + 256 * static_cast<unsigned char>(bytes[9]);
    std::vector<float> values((bytes.size() - start) / sizeof(float));
    std::memcpy(values.data(), bytes.data() + start, values.size() * sizeof(float));
    return values;
}

float largest_difference(const float* found, size_t count, const std::vector<float>& expected) {
    if (count != expected.size()) throw std::runtime_error("the number of values differs");
    float largest = 0;
    for (size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(found[i] - expected[i]));
    return largest;
}

int main(int count, char** words) {
    if (count != 3) {
        std::cerr << "usage: other_language MODEL.onnx GOLDEN\n";
        return 2;
    }
    const std::string folder = std::string(words[2]) + "/";
    cv::FileStorage facts(folder + "golden.json", cv::FileStorage::READ | cv::FileStorage::FORMAT_JSON);
    cv::FileNode made = facts["preprocessing"], labels = facts["labels"];
    Preprocessing spec{made["height"], made["width"], made["resize"].string(), made["crop"].real(), made["color"].string()};
    ov::Core core;
    // Processors with BF16 would compute in it, and the logits would differ.
    ov::InferRequest request =
        core.compile_model(words[1], "CPU", ov::hint::inference_precision(ov::element::f32)).create_infer_request();
    bool right = true;
    for (const cv::FileNode& one : facts["cases"]) {
        cv::Mat input = preprocess(cv::imread(folder + one["image"].string()), spec);
        float pixels = largest_difference(input.ptr<float>(), input.total(), read_npy(folder + one["input"].string()));
        ov::Shape shape{1, static_cast<size_t>(spec.height), static_cast<size_t>(spec.width), 3};
        request.set_input_tensor(ov::Tensor(ov::element::f32, shape, input.data));
        request.infer();
        ov::Tensor logits = request.get_output_tensor(0);
        const float* first = logits.data<float>();
        float difference = largest_difference(first, logits.get_size(), read_npy(folder + one["logits"].string()));
        int best = static_cast<int>(std::max_element(first, first + logits.get_size()) - first);
        std::cout << one["image"].string() << ": " << labels[best].string() << ", pixels differ by " << pixels
                  << ", logits by " << difference << "\n";
        right = right && pixels == 0 && difference < 1e-3 && labels[best].string() == one["label"].string();
    }
    std::cout << (right ? "same as edgeclf\n" : "not the same as edgeclf\n");
    return right ? 0 : 1;
}
