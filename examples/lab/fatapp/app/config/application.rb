BOOT_STARTED = Process.clock_gettime(Process::CLOCK_MONOTONIC)

require "rails"
require "action_controller/railtie"
require "action_view/railtie"
require "active_model/railtie"
require "yaml"

# As Bundler.require does: every gem of the list is activated and loaded.
File.foreach(File.expand_path("../gems.txt", __dir__)) do |line|
  name, _package, feature = line.split
  gem name
  require feature
end

module FatApp
  class Application < Rails::Application
    config.load_defaults 6.1
    config.eager_load = true
    config.hosts.clear
    config.secret_key_base = "not a secret: this app holds nothing worth protecting"
    config.logger = ActiveSupport::Logger.new($stdout)
    config.public_file_server.enabled = false
    config.i18n.load_path += Dir[root.join("config/locales/*.yml")]
  end
end
