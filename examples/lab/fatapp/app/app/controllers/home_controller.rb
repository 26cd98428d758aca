require "socket"

class HomeController < ActionController::Base
  def index
    @models = ApplicationModel.descendants.size
  end

  # What a test or a visitor wants to know about the process that answers.
  def about
    render json: {
      hostname: Socket.gethostname, pid: Process.pid, gems: Gem.loaded_specs.size,
      models: ApplicationModel.descendants.size, settings: SETTINGS.size,
      booted_at: BOOTED_AT.iso8601(6), boot_seconds: BOOT_SECONDS.round(3), now: Time.now.utc.iso8601(6)
    }
  end
end
