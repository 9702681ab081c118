// Tests of the safetensors reader and writer: round trips of every type and shape, and files that
// lie.
#include "safetensors/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/publish.h"
#include "error_message.h"
#include "file_contents.h"
#include "safetensors/expected_tensors.h"
#include "safetensors/sharded.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

std::string fresh_folder(const std::string& name) {
  const std::string folder = text(testing::TempDir(), "safetensors_", name, "_", ::getpid());
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         std::memcmp(a.contiguous().data_ptr(), b.contiguous().data_ptr(), a.nbytes()) == 0;
}

// A file of a hand-written header and `data` zero bytes.
std::string with_header(const std::string& folder, const std::string& header, size_t data) {
  const std::string path = folder + "/bad.safetensors";
  const uint64_t length = header.size();
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&length), 8);
  out << header << std::string(data, '\0');
  return path;
}

std::string reason(const std::string& path) {
  try {
    read_safetensors(path);
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    EXPECT_LE(std::strlen(error.what()), path.size() + 400);
    return error.what();
  }
  return "";
}

TEST(Safetensors, RoundTripOfEveryTypeAndShape) {
  const std::string path = fresh_folder("round") + "/all.safetensors";
  NamedTensors tensors;
  for (const auto dtype :
       {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort,
        at::kChar, at::kByte, at::kBool, at::kFloat8_e4m3fn, at::kFloat8_e5m2}) {
    for (const std::vector<int64_t>& shape :
         {std::vector<int64_t>{}, {1}, {0}, {7}, {3, 0, 5}, {2, 3, 5}, {1, 1, 17}}) {
      const at::Tensor values =
          (at::arange(c10::multiply_integers(shape), at::kFloat) - 3).reshape(shape);
      tensors.emplace_back(text(c10::toString(dtype), " ", tensors.size()), values.to(dtype));
    }
  }
  write_safetensors(path, tensors, {{"format", "pt"}, {"note", "quote \" and ü"}});
  const SafetensorsFile file = SafetensorsFile::open(path);
  EXPECT_EQ(file.metadata().at("note"), "quote \" and ü");
  ASSERT_EQ(file.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(same_bytes(file.load(name), tensor)) << name;
    EXPECT_EQ(file.info(name).shape, tensor.sizes().vec());
  }
  EXPECT_THROW(file.load("missing"), DataError);
  EXPECT_THROW(file.info("missing"), DataError);
}

TEST(Safetensors, BytesDependOnContentAlone) {
  const std::string folder = fresh_folder("bytes");
  const at::Tensor a = at::arange(6, at::kFloat).reshape({2, 3});
  const at::Tensor b = at::ones({5}, at::kByte);
  write_safetensors(folder + "/1", {{"a", a}, {"b", b}});
  write_safetensors(folder + "/2",
                    {{"b", b}, {"a", a.t().contiguous().t()}});  // other order, other strides
  EXPECT_EQ(file_contents(folder + "/1"), file_contents(folder + "/2"));
  // The reference implementation's layout, written down by hand.
  const std::string header =
      R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"U8","shape":[5],"data_offsets":[24,29]}})";
  const std::string found = file_contents(folder + "/1");
  EXPECT_EQ(found.substr(8, header.size()), header);
  EXPECT_EQ(found.size() % 8, 29 % 8);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 2);  // no temporary stays behind
}

TEST(Safetensors, NoTensorsAtAll) {
  const std::string path = fresh_folder("none") + "/none.safetensors";
  write_safetensors(path, {});
  EXPECT_TRUE(read_safetensors(path).empty());
}

TEST(Safetensors, WriterRefusesWhatCannotBeHeld) {
  const std::string folder = fresh_folder("refuse");
  const at::Tensor one = at::ones({1});
  EXPECT_THROW(write_safetensors(folder + "/x", {{"a", one}, {"a", one}}), Error);
  EXPECT_THROW(write_safetensors(folder + "/x", {{"__metadata__", one}}), Error);
  EXPECT_THROW(write_safetensors(folder + "/x", {{"a", one.to(at::kComplexFloat)}}), Error);
  EXPECT_THROW(write_safetensors(folder + "/missing/x", {{"a", one}}), Error);
  EXPECT_TRUE(fs::is_empty(folder));
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string folder = fresh_folder("truncated");
  write_safetensors(folder + "/whole",
                    {{"a", at::arange(5, at::kFloat)}, {"b", at::ones({3}, at::kBool)}});
  const std::string whole = file_contents(folder + "/whole");
  for (size_t length = 0; length < whole.size(); ++length) {
    std::ofstream(folder + "/part", std::ios::binary) << whole.substr(0, length);
    EXPECT_NE(reason(folder + "/part"), "") << length << " of " << whole.size();
  }
  std::ofstream(folder + "/part", std::ios::binary) << whole << "x";
  EXPECT_NE(reason(folder + "/part"), "");
}

TEST(Safetensors, FileThatShrinksWhileOpen) {
  const std::string path = fresh_folder("shrinks") + "/x.safetensors";
  write_safetensors(path, {{"a", at::arange(1000, at::kFloat)}});
  const SafetensorsFile file = SafetensorsFile::open(path);
  fs::resize_file(path, 100);
  EXPECT_THROW(file.load("a"), DataError);
}

TEST(Safetensors, HeaderLengthIsNotTrusted) {
  const std::string folder = fresh_folder("length");
  for (const uint64_t length : {uint64_t{9}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    std::ofstream out(folder + "/x", std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), 8);
    out << "{}";
    out.close();
    EXPECT_NE(reason(folder + "/x").find("claims a header"), std::string::npos) << length;
  }
  EXPECT_NE(reason(folder), "");  // a folder
  EXPECT_NE(reason(folder + "/absent"), "");
}

TEST(Safetensors, HeadersThatLie) {
  const std::string folder = fresh_folder("lies");
  struct Case {
    std::string header;
    size_t data;
    std::string expected;
  };
  const auto tensor = [](const std::string& shape, const std::string& offsets) {
    return R"({"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
  };
  const std::string huge = "18446744073709551616";  // 2^64
  const std::vector<Case> cases{
      {"", 0, "not JSON"},
      {"[]", 0, "not an object"},
      {"{", 0, "not JSON"},
      {"{\"a\":\"\xff\"}", 0, "not JSON"},
      {std::string(100000, '['), 0, "nested too deeply"},
      {"{\"a\":" + std::string(50000, '\"'), 0, "not JSON"},
      {R"({"a":1})", 0, "tensor 'a' must have dtype"},
      {R"({"a":{"dtype":"F32","shape":[]}})", 4, "tensor 'a' must have dtype"},
      {R"({"__metadata__":[]})", 0, "__metadata__"},
      {R"({"__metadata__":{"a":1}})", 0, "metadata 'a'"},
      {R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4, "dtype 'F31'"},
      {R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4, "no dtype"},
      {R"({"a":{"dtype":"I8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "'dtype' twice"},
      {"{\"a\":" + tensor("[1]", "[0,4]") + ",\"a\":" + tensor("[1]", "[4,8]") + "}", 8,
       "'a' twice"},
      {"{\"a\":" + tensor("[2]", "[0,4]") + "}", 4, "a shape of 8 bytes but takes 4"},
      {"{\"a\":" + tensor("[1]", "[4,0]") + "}", 4, "lies at bytes 4 to 0"},
      {"{\"a\":" + tensor("[2]", "[0,8]") + "}", 4, "lies at bytes 0 to 8 of 4"},
      {"{\"a\":" + tensor("[1]", "[0,4,8]") + "}", 8, "two numbers"},
      {"{\"a\":" + tensor("1", "[0,4]") + "}", 4, "list of sizes"},
      {"{\"a\":" + tensor("[-1]", "[0,4]") + "}", 4, "has -1 where"},
      {"{\"a\":" + tensor("[1.0]", "[0,4]") + "}", 4, "where a size should be"},
      {"{\"a\":" + tensor("[\"1\"]", "[0,4]") + "}", 4, "where a size should be"},
      {"{\"a\":" + tensor("[" + huge + "]", "[0,4]") + "}", 4, "where a size should be"},
      {"{\"a\":" + tensor("[4611686018427387904]", "[0,0]") + "}", 0,
       "overflows"},  // 2^62 * 4 bytes = 2^64
      {"{\"a\":" + tensor("[4294967296,4294967296]", "[0,0]") + "}", 0, "overflows"},
      {"{\"a\":" + tensor("[0,4294967296,4294967296]", "[0,0]") + "}", 0, "overflows"},
      {"{\"a\":" + tensor("[1]", "[0,4]") + ",\"b\":" + tensor("[1]", "[2,6]") + "}", 6,
       "overlaps"},
      {"{\"a\":" + tensor("[1]", "[0,4]") + ",\"b\":" + tensor("[1]", "[0,4]") + "}", 4,
       "overlaps"},
      {"{\"a\":" + tensor("[1]", "[0,4]") + ",\"b\":" + tensor("[1]", "[5,9]") + "}", 9, "gap"},
      {"{\"a\":" + tensor("[1]", "[1,5]") + "}", 5, "gap"},
      {"{\"a\":" + tensor("[1]", "[0,4]") + "}", 5, "5 follow the header"},
      {"{}", 1, "1 follow the header"},
  };
  for (const Case& each : cases) {
    const std::string found = reason(with_header(folder, each.header, each.data));
    EXPECT_NE(found.find(each.expected), std::string::npos)
        << each.header.substr(0, 100) << " -> " << found;
  }
}

TEST(Safetensors, BooleansOfOtherBytesAreDamage) {
  const std::string folder = fresh_folder("bools");
  write_safetensors(folder + "/x", {{"flag", at::ones({4}, at::kBool)}});
  std::string bytes = file_contents(folder + "/x");
  bytes.back() = 2;
  std::ofstream(folder + "/x", std::ios::binary) << bytes;
  EXPECT_NE(reason(folder + "/x").find("'flag'"), std::string::npos);
}

TEST(Safetensors, EveryFlippedHeaderBitIsReadOrRefused) {
  const std::string folder = fresh_folder("flips");
  write_safetensors(folder + "/x", {{"a", at::ones({2, 3})}, {"b", at::ones({4}, at::kLong)}},
                    {{"k", "v"}});
  const std::string whole = file_contents(folder + "/x");
  for (size_t bit = 0; bit < 8 * (whole.size() - 56); ++bit) {  // 56 bytes of data
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    std::ofstream(folder + "/y", std::ios::binary) << flipped;
    const std::string why = reason(folder + "/y");  // no crash and no other exception
    EXPECT_TRUE(std::all_of(why.begin(), why.end(), [](char c) { return c >= ' ' && c <= '~'; }))
        << bit << ": " << why;
  }
}

TEST(Sharded, ReadsFolderIndexAndFile) {
  const std::string folder = fresh_folder("sharded");
  const auto index = [&](const std::string& map) {
    publish_text(folder + "/model.safetensors.index.json",
                 R"({"metadata":{"total_size":20},"weight_map":)" + map + "}");
  };
  write_safetensors(folder + "/one.safetensors", {{"a", at::ones({3})}});
  EXPECT_EQ(ShardedSafetensors::open(folder).names(),
            std::vector<std::string>{"a"});  // the only file
  write_safetensors(folder + "/two.safetensors", {{"b", at::zeros({2})}});
  EXPECT_THROW(ShardedSafetensors::open(folder), DataError);  // which of the two?
  index(R"({"a":"one.safetensors","b":"two.safetensors"})");
  for (const std::string& path : {folder, folder + "/model.safetensors.index.json"}) {
    const ShardedSafetensors set = ShardedSafetensors::open(path);
    EXPECT_EQ(set.names(), (std::vector<std::string>{"a", "b"}));
    EXPECT_TRUE(same_bytes(set.load("b"), at::zeros({2})));
    EXPECT_THROW(set.load("c"), DataError);
  }
  EXPECT_EQ(ShardedSafetensors::open(folder + "/two.safetensors").names(),
            std::vector<std::string>{"b"});
  for (const char* bad :
       {R"({"a":"two.safetensors"})", R"({"a":"three.safetensors"})",
        R"({"a":"../one.safetensors"})", R"({"a":7})", R"({"a":""})", R"({"a":".."})", "7", "{"}) {
    index(bad);
    EXPECT_THROW(ShardedSafetensors::open(folder), DataError) << bad;
  }
}

TEST(Sharded, NamesTheFirstTensorThatIsNotAsExpected) {
  const std::string path = fresh_folder("expected") + "/x.safetensors";
  write_safetensors(path, {{"a", at::zeros({2, 3}, at::kHalf)},
                           {"b", at::zeros({4}, at::kDouble)},
                           {"c", at::zeros({1}, at::kLong)}});
  const ShardedSafetensors set = ShardedSafetensors::open(path);
  const auto said = [&](const std::vector<ExpectedTensor>& expected,
                        at::ArrayRef<at::ScalarType> types,
                        const std::vector<std::string>& also = {}) {
    const std::string words =
        message_of<DataError>([&] { require_tensors(set, expected, types, "a model", also); });
    return words.starts_with(path + ": ") ? words.substr(path.size() + 2) : words;
  };
  const ExpectedTensor a{"a", {2, 3}}, b{"b", {4}}, c{"c", {1}};
  EXPECT_EQ(said({a, b}, {}, {"c"}), "no error");
  EXPECT_EQ(said({a, b}, {}, {"c", "d"}), "no error");
  EXPECT_EQ(said({a, b}, {}), "the tensor c has no place in a model");
  EXPECT_EQ(said({a, {"d", {1}}, b}, {}), "the tensor d is missing");
  EXPECT_EQ(said({{"a", {3, 2}}, b, c}, {}), "a has the shape [2, 3], expected [3, 2]");
  EXPECT_EQ(said({{"a", {6}}, b, c}, {}), "a has the shape [2, 3], expected [6]");
  EXPECT_EQ(said({a, b, c}, {}), "c holds numbers of type Long, expected floats");
  EXPECT_EQ(said({a, b}, kPlainFloats, {"c"}),
            "b holds numbers of type Double, expected float32, bfloat16 or float16");
}

// With arguments IN OUT the program rewrites a file, for the oracle test to compare with the
// reference implementation.
int rewrite(const std::string& in, const std::string& out) {
  const SafetensorsFile file = SafetensorsFile::open(in);
  NamedTensors tensors;
  for (const std::string& name : file.names()) tensors.emplace_back(name, file.load(name));
  write_safetensors(out, tensors, file.metadata());
  return 0;
}

TEST(Safetensors, MapsWhatLoadGives) {
  const std::string path = fresh_folder("map") + "/x.safetensors";
  const at::Tensor odd = at::arange(7, at::kByte), wide = at::arange(9000, at::kDouble);
  write_safetensors(path, {{"a", wide},
                           {"b", at::arange(5, at::kFloat).to(at::kBFloat16)},
                           {"c", odd},
                           {"d", at::ones({3}, at::kBool)},
                           {"e", at::empty({0, 4})}});
  std::map<std::string, at::Tensor> mapped;
  {
    const SafetensorsFile file = SafetensorsFile::open(path);
    for (const std::string& name : file.names()) mapped[name] = file.map(name);
  }  // maps outlive the file's descriptor
  for (const auto& [name, tensor] : read_safetensors(path)) {
    EXPECT_TRUE(same_bytes(mapped.at(name), tensor)) << name;
  }
  // A header of a length that is no multiple of 8 leaves wide elements unaligned: loaded then.
  const std::string header = R"({"x":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}})";
  const std::string unaligned = with_header(fresh_folder("unaligned"), header + "   ", 16);
  ASSERT_NE((8 + header.size() + 3) % 8, 0U);
  EXPECT_TRUE(at::equal(SafetensorsFile::open(unaligned).map("x"), at::zeros({2}, at::kDouble)));
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc == 3) return pendulum::rewrite(argv[1], argv[2]);
  return RUN_ALL_TESTS();
}
