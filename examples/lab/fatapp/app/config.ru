require_relative "config/application"

FatApp::Application.initialize!
run FatApp::Application
