# A Rails application in one file, with a hook that reseeds Ruby's generator.
require "rails"
require "action_controller/railtie"

class App < Rails::Application
  config.load_defaults 7.2
  config.root = __dir__
  config.eager_load = true
  config.hosts.clear
  config.logger = Logger.new($stdout)
  config.secret_key_base = "not one"
  routes.append do
    root to: "numbers#show"
    post "after-restore" => "hooks#after_restore"
  end
end

class NumbersController < ActionController::Base
  def show = render(inline: "<p><%= rand %></p>")
end

class HooksController < ActionController::API
  def after_restore
    srand # from the kernel
    head :ok
  end
end

App.initialize!
run App
