// Field by field between TrainedModel and pendulum.json.
#include "export/model_record.h"

#include "core/error.h"
#include "core/json_fields.h"
#include "core/publish.h"
#include "model/first_frame_name.h"

namespace pendulum {
namespace {

// Exports of versions that trained no image-to-video models do not have the field.
FirstFrame read_first_frame(const JsonFields& fields) {
  if (!fields.has("image_to_video")) return FirstFrame::none;
  const auto found = first_frame_named(fields.words("image_to_video"));
  if (!found) fields.fail("image_to_video", "none, channels or first-latent");
  return *found;
}

// Likewise.
ImageConfig read_image_encoder(const JsonFields& fields) {
  ImageConfig image;
  if (fields.has("image_encoder"))
    image.kind = fields.object("image_encoder").one_of("kind", {"clip"});
  return image;
}

// Likewise.
Pair read_pair(const JsonFields& fields) {
  Pair pair;
  if (!fields.has("experts")) return pair;
  const JsonFields experts = fields.object("experts");
  pair.trained = parse_expert(experts.one_of("trained", {"high", "low"}));
  pair.boundary = experts.number("boundary");
  return pair;
}

nlohmann::json experts_record(const Pair& pair) {
  if (pair.trained == Expert::none) return nullptr;
  return {{"trained", expert_name(pair.trained)}, {"boundary", pair.boundary}};
}

GenerateConfig read_generate(const JsonFields& fields) {
  GenerateConfig generate;
  generate.solver = fields.one_of("solver", {"euler", "ab2"});
  generate.steps = fields.whole("steps", 1);
  generate.guidance = fields.number("guidance");
  if (fields.has("shift")) generate.shift = fields.number("shift");
  generate.fps = fields.whole("fps", 1);
  for (const auto& prompt : fields.at("prompts")) {
    if (!prompt.is_string()) fields.fail("prompts", "a list of texts");
    generate.prompts.push_back(prompt.get<std::string>());
  }
  return generate;
}

Provenance read_provenance(const JsonFields& fields) {
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
  const JsonFields fields(record, path);
  fields.one_of("format", {kRecordFormat});
  if (fields.at("format_version") != kRecordVersion)
    fields.fail("format_version", text(kRecordVersion, ", which this program reads"));
  TrainedModel model;
  const JsonFields codec = fields.object("codec");
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
  model.objective.predict = fields.object("objective").one_of("predict", {"velocity", "x"});
  model.objective.min_time = fields.object("objective").number("min_time");
  model.generate = read_generate(fields.object("generate"));
  const JsonFields shape = fields.object("shape");
  model.shape = {shape.whole("frames", 1), shape.whole("height", 1), shape.whole("width", 1)};
  model.provenance = read_provenance(fields.object("training"));
  return model;
}

}  // namespace pendulum
