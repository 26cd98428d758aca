package runtimeinstall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tailscale/hujson"
)

// document is a JSON object that is edited in place: whatever is not changed keeps its order, spacing and number format.
type document struct {
	root   hujson.Value
	object *hujson.Object
	indent string // of one level; "" if the document is written on one line
}

// defaultIndent is for a document that has no line of its own to take it from.
const defaultIndent = "  "

// parseDocument reads a JSON object. Empty content stands for an empty object.
func parseDocument(content []byte) (*document, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		content = []byte("{}\n")
	}
	root, err := hujson.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("invalid JSON: %s", strings.TrimPrefix(err.Error(), "hujson: "))
	}
	if !root.IsStandard() {
		return nil, errors.New("invalid JSON: it has comments or trailing commas, which dockerd does not read")
	}
	object, ok := root.Value.(*hujson.Object)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	d := &document{root: root, object: object, indent: defaultIndent}
	if len(object.Members) > 0 {
		d.indent = ""
		extra := string(object.Members[0].Name.BeforeExtra)
		if i := strings.LastIndexByte(extra, '\n'); i >= 0 {
			d.indent = extra[i+1:]
		}
	}
	return d, checkNames(object)
}

// checkNames refuses names that occur twice: which of them counts would be a guess.
func checkNames(object *hujson.Object) error {
	seen := map[string]bool{}
	for _, m := range object.Members {
		name := memberName(m)
		if seen[name] {
			return fmt.Errorf("%q occurs twice", name)
		}
		seen[name] = true
		if inner, ok := m.Value.Value.(*hujson.Object); ok {
			if err := checkNames(inner); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func (d *document) bytes() []byte { return d.root.Pack() }

func (d *document) empty() bool { return len(d.object.Members) == 0 }

// get returns the JSON text of the value at a path of names, without spaces around it; "" if there is none.
func (d *document) get(path ...string) string {
	value := d.root
	for _, name := range path {
		object, ok := value.Value.(*hujson.Object)
		if !ok {
			return ""
		}
		i := find(object, name)
		if i < 0 {
			return ""
		}
		value = object.Members[i].Value
	}
	value = value.Clone()
	value.Minimize()
	return string(value.Pack())
}

// set writes a value at a path of names, making the objects on the way.
func (d *document) set(value any, path ...string) error {
	object, depth := d.object, 1
	for ; ; depth++ {
		i := find(object, path[0])
		if i < 0 {
			break
		}
		if len(path) == 1 {
			return d.replace(&object.Members[i].Value, value, depth)
		}
		inner, ok := object.Members[i].Value.Value.(*hujson.Object)
		if !ok {
			return fmt.Errorf("%q is %s, want an object", path[0], object.Members[i].Value.Pack())
		}
		object, path = inner, path[1:]
	}
	for len(path) > 1 {
		value = map[string]any{path[len(path)-1]: value}
		path = path[:len(path)-1]
	}
	return d.add(object, path[0], value, depth)
}

// remove takes a member out; one that is not there is not an error.
func (d *document) remove(path ...string) {
	object := d.object
	for ; len(path) > 1; path = path[1:] {
		i := find(object, path[0])
		if i < 0 {
			return
		}
		inner, ok := object.Members[i].Value.Value.(*hujson.Object)
		if !ok {
			return
		}
		object = inner
	}
	if i := find(object, path[0]); i >= 0 {
		object.Members = append(object.Members[:i], object.Members[i+1:]...)
		if len(object.Members) == 0 {
			object.AfterExtra = nil
		}
	}
}

// add appends a member to an object whose members stand depth levels deep.
func (d *document) add(object *hujson.Object, name string, value any, depth int) error {
	member := hujson.ObjectMember{Name: hujson.Value{Value: hujson.String(name)}}
	if err := d.replace(&member.Value, value, depth); err != nil {
		return err
	}
	if d.indent != "" {
		member.Name.BeforeExtra = hujson.Extra("\n" + strings.Repeat(d.indent, depth))
		member.Value.BeforeExtra = hujson.Extra(" ")
		if len(object.Members) == 0 {
			object.AfterExtra = hujson.Extra("\n" + strings.Repeat(d.indent, depth-1))
		}
	}
	object.Members = append(object.Members, member)
	return nil
}

// replace writes a value over another one, in the document's layout.
func (d *document) replace(at *hujson.Value, value any, depth int) error {
	marshal := json.Marshal
	if d.indent != "" {
		marshal = func(v any) ([]byte, error) { return json.MarshalIndent(v, strings.Repeat(d.indent, depth), d.indent) }
	}
	text, err := marshal(value)
	if err != nil {
		return err
	}
	parsed, err := hujson.Parse(text)
	if err != nil {
		return err
	}
	at.Value = parsed.Value
	return nil
}

// find returns the index of a member, or -1.
func find(object *hujson.Object, name string) int {
	for i, m := range object.Members {
		if memberName(m) == name {
			return i
		}
	}
	return -1
}

func memberName(m hujson.ObjectMember) string {
	return m.Name.Value.(hujson.Literal).String() //nolint:forcetypeassert // the parser admits nothing else
}
