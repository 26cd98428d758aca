# Applications of this kind read their settings, feature flags and fixtures into memory at boot.
SETTINGS = Dir[Rails.root.join("config/settings/*.yml")].sort.to_h do |path|
  [File.basename(path, ".yml"), YAML.load_file(path)]
end.freeze

Rails.application.config.after_initialize do
  I18n.backend.eager_load!
  BOOTED_AT = Time.now.utc
  BOOT_SECONDS = Process.clock_gettime(Process::CLOCK_MONOTONIC) - BOOT_STARTED
end
