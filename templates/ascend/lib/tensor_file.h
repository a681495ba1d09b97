// Tensors in files: reads and writes the safetensors format as far as the compiler's own files go.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace xc::host {
using i64 = int64_t;

/// Ends the program with a message.
[[noreturn]] inline void fail(const char* format, ...) {
  std::va_list args;
  va_start(args, format);
  std::fputs("error: ", stderr);
  std::vfprintf(stderr, format, args);
  std::fputc('\n', stderr);
  va_end(args);
  std::exit(2);
}

/// Bytes of an element, 0 for a name that is none of the format's.
inline i64 itemSize(const std::string& dtype) {
  static const std::map<std::string, i64> sizes = {{"F64", 8}, {"F32", 4},  {"F16", 2}, {"BF16", 2},
                                                   {"I64", 8}, {"I32", 4},  {"I16", 2}, {"I8", 1},
                                                   {"U8", 1},  {"BOOL", 1}, {"U64", 8}, {"U32", 4}};
  const auto found = sizes.find(dtype);
  return found == sizes.end() ? 0 : found->second;
}

/// A tensor's type; `shape` at the sizes of one step.
struct Tensor {
  std::string name, dtype;
  std::vector<i64> shape;

  i64 bytes() const {
    i64 n = itemSize(dtype);
    for (const i64 d : shape) n *= d;
    return n;
  }
  std::string type() const {
    std::string text = dtype + "[";
    for (const i64 d : shape) text += (text.back() == '[' ? "" : ", ") + std::to_string(d);
    return text + "]";
  }
};

/// A file of tensors. Every access is checked against the file's size.
class TensorFile {
 public:
  struct Entry {
    Tensor tensor;
    i64 begin = 0, end = 0;  // bytes behind the header
  };

  explicit TensorFile(const std::string& path)
      : path_(path), file_(std::fopen(path.c_str(), "rb")) {
    if (file_ == nullptr || std::fseek(file_, 0, SEEK_END) != 0) fail("cannot read %s", at());
    const i64 size = std::ftell(file_);
    unsigned char head[8];
    std::rewind(file_);
    if (size < 8 || std::fread(head, 1, 8, file_) != 8) fail("%s is too short", at());
    i64 length = 0;
    for (int k = 7; k >= 0; --k) length = (length & ((i64{1} << 55) - 1)) << 8 | head[k];
    if (length < 2 || length > size - 8 || length > i64{100} << 20) {
      fail("%s: the header is cut off", at());
    }
    text_.resize(static_cast<size_t>(length));
    if (std::fread(&text_[0], 1, text_.size(), file_) != text_.size()) fail("%s: read error", at());
    data_ = 8 + length;
    room_ = size - data_;
    parse();
  }
  ~TensorFile() { std::fclose(file_); }
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;

  const char* at() const { return path_.c_str(); }

  /// The entry of a tensor, or null.
  const Entry* find(const std::string& name) const {
    const auto found = entries_.find(name);
    return found == entries_.end() ? nullptr : &found->second;
  }

  /// `count` bytes of a tensor from byte `from` on.
  void read(const Entry& e, i64 from, void* to, i64 count) const {
    if (from < 0 || count < 0 || from + count > e.end - e.begin)
      fail("%s: read past the end", at());
    const bool ok = std::fseek(file_, static_cast<long>(data_ + e.begin + from), SEEK_SET) == 0;
    if (!ok || std::fread(to, 1, static_cast<size_t>(count), file_) != static_cast<size_t>(count)) {
      fail("%s: read error", at());
    }
  }

 private:
  // {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
  void parse() {
    want('{');
    if (peek() == '}') return;
    do {
      const std::string name = string();
      want(':');
      if (name == "__metadata__") {
        skipObject();
      } else {
        entry(name);
      }
    } while (comma('}'));
  }

  void entry(const std::string& name) {
    Entry e;
    e.tensor.name = name;
    std::vector<i64> range;
    want('{');
    do {
      const std::string key = string();
      want(':');
      if (key == "dtype") {
        e.tensor.dtype = string();
      } else if (key == "shape") {
        e.tensor.shape = numbers();
      } else if (key == "data_offsets") {
        range = numbers();
      } else {
        malformed();
      }
    } while (comma('}'));
    if (range.size() != 2 || range[0] > range[1] || range[1] > room_) malformed();
    i64 bytes = itemSize(e.tensor.dtype);
    if (bytes == 0) malformed();
    for (const i64 d : e.tensor.shape) {
      if (d != 0 && bytes > room_ / d) malformed();
      bytes *= d;
    }
    if (bytes != range[1] - range[0]) malformed();
    e.begin = range[0];
    e.end = range[1];
    entries_[name] = e;
  }

  void skipObject() {  // of strings
    want('{');
    if (peek() == '}') {
      ++pos_;
      return;
    }
    do {
      string();
      want(':');
      string();
    } while (comma('}'));
  }

  std::vector<i64> numbers() {
    std::vector<i64> out;
    want('[');
    if (peek() == ']') {
      ++pos_;
      return out;
    }
    do {
      i64 n = 0;
      const size_t first = (peek(), pos_);
      while (pos_ < text_.size() && text_[pos_] >= '0' && text_[pos_] <= '9') {
        if (pos_ - first > 15) malformed();
        n = 10 * n + (text_[pos_++] - '0');
      }
      if (pos_ == first) malformed();
      out.push_back(n);
    } while (comma(']'));
    return out;
  }

  std::string string() {
    std::string out;
    want('"');
    while (true) {
      const char c = next();
      if (c == '"') return out;
      if (c != '\\') {
        out += c;
        continue;
      }
      const char escaped = next();
      const std::string plain = "\"\\/", named = "bfnrt", meaning = "\b\f\n\r\t";
      if (plain.find(escaped) != std::string::npos) {
        out += escaped;
      } else if (named.find(escaped) != std::string::npos) {
        out += meaning[named.find(escaped)];
      } else if (escaped == 'u') {
        utf8(out, unicode());
      } else {
        malformed();
      }
    }
  }

  uint32_t unicode() {
    uint32_t c = hex();
    if (c >= 0xD800 && c < 0xDC00 && next() == '\\' && next() == 'u') {
      c = 0x10000 + ((c - 0xD800) << 10) + (hex() & 0x3FF);
    }
    return c;
  }

  uint32_t hex() {
    uint32_t value = 0;
    for (int k = 0; k < 4; ++k) {
      const std::string digits = "0123456789abcdef";
      const size_t found = digits.find(static_cast<char>(next() | 0x20));
      if (found == std::string::npos) malformed();
      value = value << 4 | static_cast<uint32_t>(found);
    }
    return value;
  }

  static void utf8(std::string& out, uint32_t c) {
    const auto put = [&out](uint32_t byte) { out += static_cast<char>(byte); };
    if (c < 0x80) {
      put(c);
    } else if (c < 0x800) {
      put(0xC0 | c >> 6);
      put(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
      put(0xE0 | c >> 12);
      put(0x80 | (c >> 6 & 0x3F));
      put(0x80 | (c & 0x3F));
    } else {
      put(0xF0 | c >> 18);
      put(0x80 | (c >> 12 & 0x3F));
      put(0x80 | (c >> 6 & 0x3F));
      put(0x80 | (c & 0x3F));
    }
  }

  char next() {
    if (pos_ >= text_.size()) malformed();
    return text_[pos_++];
  }
  char peek() {
    while (pos_ < text_.size() && (text_[pos_] == ' ' || text_[pos_] == '\n')) ++pos_;
    return pos_ < text_.size() ? text_[pos_] : '\0';
  }
  void want(char c) {
    if (peek() != c) malformed();
    ++pos_;
  }
  /// Whether another item follows; `last` ends the list.
  bool comma(char last) {
    const char c = peek();
    if (c != ',' && c != last) malformed();
    ++pos_;
    return c == ',';
  }
  [[noreturn]] void malformed() const {
    fail("%s: the header is malformed at byte %zu", at(), pos_ + 8);
  }

  std::string path_, text_;
  std::FILE* file_;
  size_t pos_ = 0;
  i64 data_ = 0, room_ = 0;
  std::map<std::string, Entry> entries_;
};

inline std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (const char c : s) {
    char text[8];
    const bool control = static_cast<unsigned char>(c) < 32;
    if (control) std::snprintf(text, sizeof text, "\\u%04x", c);
    out += control ? text : (c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c});
  }
  return out + "\"";
}

/// Writes tensors, whose bytes lie one after the other in `data`.
inline void writeTensors(const std::string& path, const std::vector<Tensor>& tensors,
                         const std::vector<char>& data) {
  std::string header = "{";
  i64 at = 0;
  for (const Tensor& t : tensors) {
    std::string shape;
    for (const i64 d : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(d);
    header += (at == 0 && header.size() == 1 ? "" : ",") + quoted(t.name) + ":{\"dtype\":\"" +
              t.dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(at) +
              "," + std::to_string(at + t.bytes()) + "]}";
    at += t.bytes();
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  unsigned char length[8];
  for (int k = 0; k < 8; ++k) length[k] = static_cast<unsigned char>(header.size() >> 8 * k);
  std::FILE* f = std::fopen(path.c_str(), "wb");
  const bool ok = f != nullptr && std::fwrite(length, 1, 8, f) == 8 &&
                  std::fwrite(header.data(), 1, header.size(), f) == header.size() &&
                  std::fwrite(data.data(), 1, data.size(), f) == data.size();
  if (f == nullptr || std::fclose(f) != 0 || !ok) fail("cannot write %s", path.c_str());
}
}  // namespace xc::host
