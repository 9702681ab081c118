// Field by field between TrainedModel and pendulum.json.
#include "export/model_record.h"

#include "core/error.h"
#include "core/publish.h"
#include "model/first_frame_name.h"

namespace pendulum {
namespace {

// Reads members of one object and says where it was when one is not as it should be.
class Fields {
 public:
  Fields(const nlohmann::json& json, std::string path, std::string name)
      : json_(json), path_(std::move(path)), name_(std::move(name)) {
    if (!json_.is_object()) throw DataError(text(path_, ": ", name_, " is not an object"));
  }
  Fields object(const std::string& key) const { return {at(key), path_, key}; }
  std::string words(const std::string& key) const {
    if (!at(key).is_string()) fail(key, "text");
    return at(key).get<std::string>();
  }
  std::string one_of(const std::string& key, const std::string& first,
                     const std::string& second) const {
    const std::string word = words(key);
    if (word != first && word != second) fail(key, first + " or " + second);
    return word;
  }
  int whole(const std::string& key, int least) const {
    const nlohmann::json& value = at(key);
    const bool is_whole = value.is_number_integer() && value.get<int64_t>() >= least &&
                          value.get<int64_t>() < (1 << 30);
    if (!is_whole) fail(key, text("a whole number of at least ", least));
    return value.get<int>();
  }
  double number(const std::string& key) const {
    if (!at(key).is_number()) fail(key, "a number");
    return at(key).get<double>();
  }
  bool has(const std::string& key) const { return json_.contains(key); }
  const std::string& path() const { return path_; }
  const nlohmann::json& at(const std::string& key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) throw DataError(text(path_, ": ", name_, ".", key, " is missing"));
    return *found;
  }
  [[noreturn]] void fail(const std::string& key, const std::string& expected) const {
    throw DataError(
        text(path_, ": ", name_, ".", key, " is ", at(key).dump(), ": expected ", expected));
  }

 private:
  const nlohmann::json& json_;
  std::string path_, name_;
};

// Exports of versions that trained no image-to-video models do not have the field.
FirstFrame read_first_frame(const Fields& fields) {
  if (!fields.has("image_to_video")) return FirstFrame::none;
  const auto found = first_frame_named(fields.words("image_to_video"));
  if (!found) fields.fail("image_to_video", "none, channels or first-latent");
  return *found;
}

// Likewise.
ImageConfig read_image_encoder(const Fields& fields) {
  ImageConfig image;
  if (!fields.has("image_encoder") || fields.at("image_encoder").is_null()) return image;
  const Fields encoder = fields.object("image_encoder");
  image.kind = encoder.words("kind");
  if (image.kind != "clip") encoder.fail("kind", "clip");
  return image;
}

// Likewise.
Pair read_pair(const Fields& fields) {
  Pair pair;
  if (!fields.has("experts") || fields.at("experts").is_null()) return pair;
  const Fields experts = fields.object("experts");
  pair.trained = parse_expert(experts.one_of("trained", "high", "low"));
  pair.boundary = experts.number("boundary");
  return pair;
}

nlohmann::json experts_record(const Pair& pair) {
  if (pair.trained == Expert::none) return nullptr;
  return {{"trained", expert_name(pair.trained)}, {"boundary", pair.boundary}};
}

GenerateConfig read_generate(const Fields& fields) {
  GenerateConfig generate;
  generate.solver = fields.one_of("solver", "euler", "ab2");
  generate.steps = fields.whole("steps", 1);
  generate.guidance = fields.number("guidance");
  if (!fields.at("shift").is_null()) generate.shift = fields.number("shift");
  generate.fps = fields.whole("fps", 1);
  for (const auto& prompt : fields.at("prompts")) {
    if (!prompt.is_string()) fields.fail("prompts", "a list of texts");
    generate.prompts.push_back(prompt.get<std::string>());
  }
  return generate;
}

Provenance read_provenance(const Fields& fields) {
  Provenance provenance;
  provenance.run = fields.words("run");
  provenance.stage = fields.words("stage");
  provenance.step = fields.whole("step", 0);
  provenance.weights = fields.words("weights");
  provenance.plan_hash = fields.words("plan_hash");
  provenance.consumption_head = fields.words("consumption_log_head");
  // Exports of earlier versions have none of these.
  if (fields.has("consumption_log_seq"))
    provenance.consumption_seq = fields.whole("consumption_log_seq", -1);
  if (fields.has("consumption_log_signature")) {
    provenance.consumption_public_key = fields.words("consumption_log_public_key");
    provenance.consumption_signature = fields.words("consumption_log_signature");
  }
  if (fields.has("origins")) {
    for (const auto& origin : fields.at("origins"))
      provenance.origins.push_back(origin_from_json(origin, fields.path()));
  }
  return provenance;
}

}  // namespace

nlohmann::json training_record(const Provenance& provenance) {
  nlohmann::json record{{"run", provenance.run},
                        {"stage", provenance.stage},
                        {"step", provenance.step},
                        {"weights", provenance.weights},
                        {"plan_hash", provenance.plan_hash},
                        {"consumption_log_head", provenance.consumption_head},
                        {"consumption_log_seq", provenance.consumption_seq},
                        {"origins", nlohmann::json::array()}};
  for (const Origin& origin : provenance.origins) record["origins"].push_back(to_json(origin));
  if (!provenance.consumption_signature.empty()) {
    record["consumption_log_public_key"] = provenance.consumption_public_key;
    record["consumption_log_signature"] = provenance.consumption_signature;
  }
  return record;
}

void write_training_record(const Provenance& provenance, const std::string& folder) {
  const nlohmann::json record{{"format", "pendulum-weights"},
                              {"format_version", kRecordVersion},
                              {"training", training_record(provenance)}};
  publish_text(folder + "/training.json", record.dump(2) + "\n");
}

nlohmann::json model_record(const TrainedModel& model, at::ScalarType dtype) {
  nlohmann::json generate{
      {"solver", model.generate.solver},     {"steps", model.generate.steps},
      {"guidance", model.generate.guidance}, {"shift", nullptr},
      {"fps", model.generate.fps},           {"prompts", model.generate.prompts}};
  if (model.generate.shift) generate["shift"] = *model.generate.shift;
  return {
      {"format", kRecordFormat},
      {"format_version", kRecordVersion},
      {"dtype", dtype == at::kFloat ? "fp32" : "bf16"},
      {"codec", model.codec->describe()},
      {"text_encoder", model.text_encoder->describe()},
      {"image_encoder",
       model.image_encoder ? model.image_encoder->describe() : nlohmann::json(nullptr)},
      {"image_to_video", first_frame_name(model.first_frame)},
      {"experts", experts_record(model.pair)},
      {"objective", {{"predict", model.objective.predict}, {"min_time", model.objective.min_time}}},
      {"generate", generate},
      {"shape",
       {{"frames", model.shape.frames},
        {"height", model.shape.height},
        {"width", model.shape.width}}},
      {"training", training_record(model.provenance)}};
}

TrainedModel read_model_record(const nlohmann::json& record, const std::string& path) {
  const Fields fields(record, path, "record");
  if (fields.at("format") != kRecordFormat)
    throw DataError(text(path, ": format is not ", kRecordFormat));
  if (fields.at("format_version") != kRecordVersion) {
    throw DataError(text(path, ": format_version is ", fields.at("format_version").dump(),
                         ", this program reads version ", kRecordVersion));
  }
  TrainedModel model;
  const Fields codec = fields.object("codec");
  model.codec_config.kind = codec.words("kind");
  if (model.codec_config.kind == "haar") {
    model.codec_config.spatial = codec.whole("spatial", 1);
    model.codec_config.temporal = codec.whole("temporal", 1);
    model.codec_config.drop = codec.whole("drop", 0);
  }
  model.text_config.kind = fields.object("text_encoder").words("kind");
  model.text_config.length = fields.object("text_encoder").whole("length", 1);
  model.text_config.weights.clear();
  model.image_config = read_image_encoder(fields);
  model.first_frame = read_first_frame(fields);
  model.pair = read_pair(fields);
  model.objective.predict = fields.object("objective").one_of("predict", "velocity", "x");
  model.objective.min_time = fields.object("objective").number("min_time");
  model.generate = read_generate(fields.object("generate"));
  const Fields shape = fields.object("shape");
  model.shape = {shape.whole("frames", 1), shape.whole("height", 1), shape.whole("width", 1)};
  model.provenance = read_provenance(fields.object("training"));
  return model;
}

}  // namespace pendulum
