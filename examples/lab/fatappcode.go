package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// addGem adds an installed gem: its specification and a library of several files.
func addGem(files map[string]string, name string, count int) {
	files["vendor/specifications/"+name+"-1.0.0.gemspec"] = fmt.Sprintf(`Gem::Specification.new do |s|
  s.name = %q
  s.version = "1.0.0"
  s.summary = "One of many"
  s.authors = ["fat-app"]
  s.require_paths = ["lib"]
end
`, name)
	module := camelCase(name)
	lib := "vendor/gems/" + name + "-1.0.0/lib/"
	var main strings.Builder
	fmt.Fprintf(&main, "module %s\n  VERSION = \"1.0.0\"\nend\n", module)
	for i := 1; i <= count; i++ {
		part := fmt.Sprintf("part_%02d", i)
		fmt.Fprintf(&main, "require %q\n", name+"/"+part)
		files[lib+name+"/"+part+".rb"] = gemPart(module, camelCase(part), i)
	}
	files[lib+name+".rb"] = main.String()
}

func gemPart(module, class string, seed int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "module %s\n  class %s\n    TABLE = {\n", module, class)
	for i := range 40 {
		fmt.Fprintf(&b, "      key_%02d: [%d, %q, %q],\n", i, i*seed, fmt.Sprintf("value %d of %s", i, class), module)
	}
	b.WriteString("    }.freeze\n\n    attr_reader :options\n\n    def initialize(**options)\n      @options = TABLE.merge(options)\n    end\n")
	for i := range 20 {
		fmt.Fprintf(&b, `
    def step_%02[1]d(input, factor: %[2]d)
      return input if input.nil?

      options.each_with_object({}) do |(key, (number, text, _)), result|
        result[key] = number.to_i * factor > %[2]d ? "#{text}-#{input}" : text
      end
    end
`, i, i*7+seed)
	}
	b.WriteString("  end\nend\n")
	return b.String()
}

// model is one class of the application, with attributes, validations and methods.
func model(number, methods int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "class Thing%04d < ApplicationModel\n", number)
	for i := range 12 {
		fmt.Fprintf(&b, "  attribute :field_%02d, :%s, default: %d\n", i, []string{"integer", "string", "float"}[i%3], i)
	}
	for i := range 6 {
		fmt.Fprintf(&b, "  validates :field_%02d, presence: true, length: { maximum: %d }, if: -> { field_%02d.present? }\n", i, 20+i, i)
	}
	b.WriteString("\n  STATES = %w[draft submitted approved rejected archived].freeze\n  STATES.each { |s| define_method(\"#{s}?\") { @state == s } }\n")
	for i := range methods {
		fmt.Fprintf(&b, `
  def rule_%02[1]d(context = {})
    limit = context.fetch(:limit, %[2]d)
    case field_%02[3]d
    when nil then { rule: "rule_%02[1]d", ok: false, reason: "missing" }
    when 0..limit then { rule: "rule_%02[1]d", ok: true, reason: "within #{limit}" }
    else { rule: "rule_%02[1]d", ok: false, reason: "beyond #{limit} in thing %[4]d" }
    end
  end
`, i, number+i, i%12, number)
	}
	b.WriteString("end\n")
	return b.String()
}

// settings is a YAML file with nested values of several kinds.
func settings(random *rand.Rand, keys int) string {
	var b strings.Builder
	for i := range keys {
		fmt.Fprintf(&b, "setting_%03d:\n  enabled: %t\n  weight: %.3f\n  limit: %d\n  description: %q\n  regions: [%s]\n",
			i, random.IntN(2) == 0, random.Float64(), random.IntN(100000), words(random, 8), strings.ReplaceAll(words(random, 4), " ", ", "))
	}
	return b.String()
}

// phrases is a file of translations.
func phrases(random *rand.Rand, file, count int) string {
	var b strings.Builder
	b.WriteString("en:\n")
	fmt.Fprintf(&b, "  section_%02d:\n", file)
	for i := range count {
		fmt.Fprintf(&b, "    phrase_%04d: %q\n", i, words(random, 7))
	}
	return b.String()
}

var vocabulary = strings.Fields("account amount archive basket branch budget carrier catalog channel client contract country " +
	"currency customer delivery deposit discount district document estimate exchange factory freight gateway holding " +
	"invoice journal ledger license location margin market member network notice office order package partner payment " +
	"product quality quantity quota receipt region report reserve route sample schedule section segment service shipment " +
	"stock supplier target tariff tenant terminal ticket transfer vehicle vendor volume voucher warehouse warranty")

func words(random *rand.Rand, count int) string {
	picked := make([]string, count)
	for i := range picked {
		picked[i] = vocabulary[random.IntN(len(vocabulary))]
	}
	return strings.Join(picked, " ")
}

func camelCase(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}
