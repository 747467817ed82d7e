package web

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/assist"
)

type object = map[string]any

// openAPI describes the routes from the Go types that they read and write.
func openAPI(routes map[string]*route) []byte {
	schemas := object{"Error": object{
		"type": "object", "required": []string{"error"},
		"properties": object{"error": object{
			"type": "object", "required": []string{"message", "type", "param", "code"},
			"properties": object{
				"message": object{"type": "string"}, "type": object{"type": "string"},
				"param": object{"type": []string{"string", "null"}},
				"code":  object{"type": []string{"string", "null"}, "examples": openai.Codes()},
			},
		}},
	}}
	ref := func(v any) object { return schemaOf(reflect.TypeOf(v), schemas) }
	paths := object{}
	for name, rt := range routes {
		op := object{"summary": rt.summary, "operationId": strings.Trim(strings.ReplaceAll(name, ".json", ""), "/")}
		statuses := []int{401, 403, 405, 429, 500, 502, 503}
		if rt.in != nil {
			op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": ref(rt.in)}}}
			statuses = append(statuses, 400, 402, 408, 413, 415, 504)
		}
		content := object{"application/json": object{"schema": ref(rt.out)}}
		if rt.streams {
			content["text/event-stream"] = object{"schema": object{"type": "string", "description": `Events "draft" with {"text": what was added}, then "result" with the result, or "error".`}}
		}
		responses := object{"200": object{"description": "The answer", "content": content}}
		slices.Sort(statuses)
		for _, status := range statuses {
			responses[strconv.Itoa(status)] = object{"description": http.StatusText(status), "content": object{"application/json": object{"schema": object{"$ref": "#/components/schemas/Error"}}}}
		}
		op["responses"] = responses
		at := prefix + name
		if strings.HasSuffix(name, "/") {
			at += "{id}"
			op["parameters"] = []object{{"name": "id", "in": "path", "required": true, "schema": object{"type": "string"}}}
		}
		paths[at] = object{strings.ToLower(rt.method): op}
	}
	b, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info":    object{"title": "Cocoon for messaging", "version": "1", "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"}},
		"servers": []object{{"url": "/"}}, "paths": paths, "components": object{"schemas": schemas},
	})
	if err != nil {
		panic(err) // strings, lists and maps always marshal
	}
	return append(b, '\n')
}

var (
	idType  = reflect.TypeFor[assist.ID]()
	rawType = reflect.TypeFor[json.RawMessage]()
	// usageType writes itself.
	usageType = reflect.TypeFor[openai.Usage]()
)

// schemaOf is the JSON schema of a type as encoding/json writes it; named
// structs go into schemas.
func schemaOf(t reflect.Type, schemas object) object {
	switch {
	case t == idType:
		return object{"type": []string{"string", "integer"}}
	case t == rawType:
		return object{}
	case t == usageType:
		counter := object{"type": "integer"}
		return object{"type": "object", "properties": object{"prompt_tokens": counter, "completion_tokens": counter, "total_tokens": counter}}
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return object{"type": "object"}
		}
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem(), schemas)}
	case reflect.Pointer:
		return schemaOf(t.Elem(), schemas)
	case reflect.Struct:
		if _, ok := schemas[t.Name()]; !ok {
			schemas[t.Name()] = object{} // before its fields, which may name it
			properties, required := object{}, []string{}
			fieldsOf(t, schemas, properties, &required)
			schemas[t.Name()] = object{"type": "object", "properties": properties, "required": required}
		}
		return object{"$ref": "#/components/schemas/" + t.Name()}
	default:
		return object{"type": "integer"}
	}
}

// fieldsOf adds the fields of a struct; those of an embedded one are its own.
func fieldsOf(t reflect.Type, schemas, properties object, required *[]string) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			fieldsOf(f.Type, schemas, properties, required)
		case name != "" && name != "-":
			properties[name] = schemaOf(f.Type, schemas)
			if options != "omitempty" {
				*required = append(*required, name)
			}
		}
	}
}

// kindName is what a JSON value should have been, for errors.
func kindName(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "an integer"
}
