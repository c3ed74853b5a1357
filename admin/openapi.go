package admin

import (
	"encoding"
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

type object = map[string]any

// openAPI describes the lines of the API as an OpenAPI 3.1 document. The schemas come from the Go types, whose JSON is the API's.
func openAPI(routes []Route) (json.RawMessage, error) {
	g := &schemas{made: object{}}
	problem := object{"description": "What went wrong, why, and what to do.",
		"content": object{"application/problem+json": object{"schema": g.of(reflect.TypeFor[Problem]())}}}
	paths := object{}
	for _, r := range routes {
		item, ok := paths[r.Path()].(object)
		if !ok {
			item = object{}
			paths[r.Path()] = item
		}
		item[strings.ToLower(r.Method())] = g.operation(r)
	}
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{"title": "Cairn admin API", "version": "1",
			"description": "Each operation names the action that policies are asked about (x-cairn-action) and the command line that does the same (x-cairn-cli)."},
		"security": []any{object{"basic": []any{}}, object{"session": []any{}}},
		"paths":    paths,
		"components": object{
			"schemas":   g.made,
			"responses": object{"Problem": problem},
			"securitySchemes": object{
				"basic":   object{"type": "http", "scheme": "basic", "description": "Access key and secret key."},
				"session": object{"type": "apiKey", "in": "cookie", "name": sessionCookie},
			},
		},
	}, "", "  ")
}

var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

// operation describes one line.
func (g *schemas) operation(r Route) object {
	ok := object{"description": "Done."}
	switch {
	case strings.HasSuffix(r.Path(), "/events"):
		ok["content"] = object{"text/event-stream": object{"schema": object{"type": "string"}}}
	case r.Gives != nil:
		ok["content"] = object{"application/json": object{"schema": g.of(reflect.TypeOf(r.Gives))}}
	default:
		ok["content"] = object{"application/json": object{"schema": object{}}}
	}
	parameters := []any{}
	for _, m := range pathParameter.FindAllStringSubmatch(r.Path(), -1) {
		parameters = append(parameters, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range r.Query {
		parameters = append(parameters, object{"name": p.Name, "in": "query", "description": p.What, "schema": object{"type": "string"}})
	}
	op := object{"summary": r.What, "operationId": operationID(r), "parameters": parameters, "x-cairn-action": r.Action, "x-cairn-cli": "cairn " + r.CLI,
		"x-cairn-audited": r.Changes(), "responses": object{"2XX": ok, "default": object{"$ref": "#/components/responses/Problem"}}}
	if r.Takes != nil {
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": g.of(reflect.TypeOf(r.Takes))}}}
	}
	return op
}

// operationID is unique, since it is method and path.
func operationID(r Route) string {
	words := strings.FieldsFunc(strings.TrimPrefix(r.Path(), "/api/v1/"), func(c rune) bool { return strings.ContainsRune("/{}.-", c) })
	return strings.ToLower(r.Method()) + "_" + strings.Join(words, "_")
}

// schemas makes JSON schemas of Go types. Structs become components under their type's name.
type schemas struct{ made object }

var (
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	rawMessage    = reflect.TypeFor[json.RawMessage]()
)

func (g *schemas) of(t reflect.Type) object {
	switch {
	case t == rawMessage:
		return object{}
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[time.Duration]():
		return object{"type": "integer", "description": "nanoseconds"}
	case t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(textMarshaler):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "contentEncoding": "base64"}
		}
		return object{"type": "array", "items": g.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Struct:
		return g.structure(t)
	case reflect.Interface:
		return object{}
	}
	return object{"type": "integer"}
}

// structure describes a struct once, under a name that its package tells apart from others.
func (g *schemas) structure(t reflect.Type) object {
	name := t.Name()
	if name == "" {
		return g.members(t)
	}
	if path := t.PkgPath(); path != "cairn" && !strings.HasSuffix(path, "/admin") {
		name = path[strings.LastIndexByte(path, '/')+1:] + "." + name
	}
	ref := object{"$ref": "#/components/schemas/" + name}
	if _, ok := g.made[name]; !ok {
		g.made[name] = object{} // it may hold itself
		g.made[name] = g.members(t)
	}
	return ref
}

func (g *schemas) members(t reflect.Type) object {
	properties, required := object{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || f.Anonymous && name == "" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		properties[name] = g.of(f.Type)
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	return object{"type": "object", "properties": properties, "required": required}
}
