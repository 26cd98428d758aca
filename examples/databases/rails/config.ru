# A Rails application in one file. Its hook makes a clone what it would be had it booted in its own allocation.
require "rails"
require "action_controller/railtie"
require "active_record/railtie"
require "openssl"
require "shellwords"
require "socket"

class App < Rails::Application
  config.load_defaults 7.2
  config.root = __dir__
  config.eager_load = true
  config.hosts.clear
  config.logger = Logger.new($stdout)
  config.secret_key_base = "not one"
  routes.append do
    root to: "visits#create"
    post "after-restore" => "hooks#after_restore"
  end
end

class Visit < ActiveRecord::Base
  # The clone's PostgreSQL is another one than the donor's: it may be starting still, and have no tables.
  def self.open_database
    connection_handler.clear_all_connections!(:all)
    connection_pool.migration_context.migrate
    connection_handler.clear_active_connections!(:all) # at boot, no request's end does
  rescue ActiveRecord::ConnectionNotEstablished
    sleep 0.1
    retry
  end
end

class VisitsController < ActionController::API
  def create
    Visit.create!
    render json: { hostname: Socket.gethostname, requests: Visit.count, random: Random.bytes(16).unpack1("H*"), allocation: ENV["NOMAD_ALLOC_ID"] }
  end
end

class HooksController < ActionController::API
  def after_restore
    reseed([JSON.parse(request.raw_post)["random"]].pack("H*"))
    ENV.update(Shellwords.split(File.read("/local/criu-docker.env")).to_h { |line| line.split("=", 2) })
    Visit.open_database
    head :ok
  end

  private

  def reseed(random)
    OpenSSL::Random.random_add(random, random.bytesize)
    srand(random.unpack1("H*").hex)
  end
end

App.initialize!
Visit.open_database
run App
