// Asks what the export itself will ask.
#include "apps/export_warning.h"

#include "core/log.h"
#include "export/pipeline_folder.h"

namespace pendulum {

void warn_of_export(const Config& config) {
  // There are image states where there is an encoder of them: wan_config() sees to that.
  const std::string obstacle =
      caption_obstacle(config.codec, config.text, config.image.kind != "none");
  if (obstacle.empty()) return;
  warn(
      "diffusers will not be able to draw with the exported model: {}. Set text.length to that if "
      "it is to; pendulum draws with any",
      obstacle);
}

}  // namespace pendulum
