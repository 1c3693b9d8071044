package objects

import (
	"strings"
	"testing"
)

func TestDecodeIsStrict(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}]}\n"
	for name, c := range map[string]struct {
		text    string
		objects int
		err     string
	}{
		"two":           {text: service + "---\n# nothing\n---\n" + service, objects: 2},
		"unknown field": {text: strings.Replace(service, "ports", "prots", 1), err: `unknown field "spec.prots"`},
		"given twice":   {text: service + "kind: Service\n", err: `"kind" already set`},
		"wrong type":    {text: strings.Replace(service, "port: 1", "port: one", 1), err: "cannot unmarshal"},
		"unknown kind":  {text: strings.Replace(service, "Service", "Servant", 1), err: "Servant"},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := Decode([]byte(c.text))
			if c.err == "" && (err != nil || len(all) != c.objects) {
				t.Errorf("%d objects, error %v; want %d", len(all), err, c.objects)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v; want one with %q", err, c.err)
			}
		})
	}
}
