# Sends with each printed part of config/environments/production.rb. Lines of stdin: name, file, recipient.
require 'action_mailer'

# What Rails' railtie does with `config.action_mailer`.
def mailer(file)
  config = Struct.new(:action_mailer).new(ActiveSupport::OrderedOptions.new)
  eval(File.read(file), binding, file)
  Class.new(ActionMailer::Base) do
    def self.name = 'Letters'
    config.action_mailer.each { |key, value| send(:"#{key}=", value) }
    define_method(:letter) { |to| mail(to: to, subject: 'hi', body: 'hi') }
  end
end

$stdin.each_line(chomp: true) do |line|
  name, file, to = line.split("\t")
  outcome = 'sent'
  begin
    mailer(file).letter(to).deliver_now
  rescue StandardError, ScriptError => e
    outcome = "#{e.class}: #{e.message}".gsub(/\s+/, ' ')
  end
  puts "RESULT\t#{name}\t#{outcome}"
end
