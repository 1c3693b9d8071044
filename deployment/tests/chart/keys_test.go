package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/template/parse"

	"vmcluster/deployment/tests/objects"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

const (
	clusterDir = "../../helm/vmcluster"
	singleDir  = "../../helm/vmcluster-single"
)

// eachChart runs a test of both charts.
func eachChart(t *testing.T, test func(t *testing.T, dir string)) {
	for _, dir := range []string{clusterDir, singleDir} {
		t.Run(filepath.Base(dir), func(t *testing.T) { test(t, dir) })
	}
}

func load(t *testing.T, dir string) *Chart {
	t.Helper()
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func readYAML(t *testing.T, name string) map[string]any {
	t.Helper()
	values, err := ReadValues(name)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// TestKeysAreDocumented: whatever the schema accepts has a default and a comment in values.yaml. (The converse, that the schema knows all
// keys of values.yaml, is what Helm checks before it renders anything.)
func TestKeysAreDocumented(t *testing.T) { eachChart(t, testKeysAreDocumented) }

func testKeysAreDocumented(t *testing.T, dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range describe(t, text) {
		documented[row.path] = true
	}
	for _, leaf := range readSchema(t, dir).leaves("") {
		if !documented[leaf] {
			t.Errorf("%s is in values.schema.json, and not in values.yaml with a comment above it", leaf)
		}
	}
}

// constant are keys with one value only, or none that is not ignored.
var constant = map[string]string{
	"vmauth/enabled":                             "refused, see TestRefusals",
	"license/secret/key":                         "ignored",
	"server/scrape/enabled":                      "refused, see TestRefusals",
	"vmstorage/service/enabled":                  "true",
	"vmstorage/service/type":                     "ClusterIP",
	"vmstorage/service/clusterIP":                "None",
	"vmstorage/service/publishNotReadyAddresses": "true",
}

// scenarios are sets of keys that are left at their defaults so that others, which they hide, can be seen: paths, or paths within components.
var scenarios = [][]string{
	slices.Concat(shown, []string{"podDisruptionBudget/minAvailable", "horizontalPodAutoscaler/enabled", "serviceAccount/create", "license/secret/name"}),
	slices.Concat(shown, []string{"podDisruptionBudget/maxUnavailable", "persistentVolume/existingClaim", "relabel/configMap", "autoDiscovery", "image/registry", "image/tag", "vmstorage/persistentVolume/enabled",
		"serviceMonitor/targetPort", "mode", "persistentVolume/enabled", "excludeStorageIDs", "serviceAccount/name", "license/key"}),
	slices.Concat(shown, []string{"podDisruptionBudget/minAvailable", "podDisruptionBudget/maxUnavailable", "persistentVolume/existingClaim", "vmstorage/persistentVolume/enabled", "excludeStorageIDs",
		"horizontalPodAutoscaler/enabled", "image/tag", "vmbackupmanager/image/tag", "vmbackupmanager/image/registry", "common/image/tag", "fullnameOverride"}),
	slices.Concat(shown, []string{"podDisruptionBudget/minAvailable", "image/tag", "vmbackupmanager/image/tag", "common/image/tag", "global/image/vm/tag", "vmstorage/persistentVolume/enabled", "server/persistentVolume/enabled", "server/replicaCount"}),
}

// shown are keys that hide whole objects.
var shown = []string{"enabled", "printNotes", "service/enabled", "podDisruptionBudget/enabled", "suppressStorageFQDNsRender"}

// within is a path within its component, or the path itself where it is of none.
func within(leaf string) string {
	if component, rest, ok := strings.Cut(leaf, "/"); ok && (strings.HasPrefix(component, "vm") || component == "server") {
		return rest
	}
	return leaf
}

// example returns values with the example of every key but those of without.
func example(t *testing.T, leaves, without []string) map[string]any {
	t.Helper()
	examples := examples(t)
	values := map[string]any{}
	for _, leaf := range leaves {
		value, ok := examples[leaf]
		if !ok {
			value, ok = examples[within(leaf)]
		}
		switch {
		case constant[leaf] != "" || slices.Contains(without, leaf) || slices.Contains(without, within(leaf)):
		case !ok:
			t.Errorf("%s has no example in testdata/examples.yaml", leaf)
		default:
			put(values, leaf, filled(t, value, strings.Split(leaf, "/")[0]))
		}
	}
	return values
}

var examples = func() func(t *testing.T) map[string]any {
	var once sync.Once
	var values map[string]any
	return func(t *testing.T) map[string]any {
		once.Do(func() { values = readYAML(t, "testdata/examples.yaml") })
		return values
	}
}()

// filled is a copy of an example with the component in it.
func filled(t *testing.T, value any, component string) any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), "{component}", component)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEveryKeyMatters renders all keys with other values than the defaults, checks the objects, and then takes away each key, from all
// components at once: what each of them makes must change, or the key does nothing there.
func TestEveryKeyMatters(t *testing.T) { eachChart(t, testEveryKeyMatters) }

func testEveryKeyMatters(t *testing.T, dir string) {
	c := load(t, dir)
	leaves := readSchema(t, dir).leaves("")
	silent := map[string][]string{} // the paths that have not changed anything yet, by their path within a component
	for _, leaf := range leaves {
		if constant[leaf] == "" {
			silent[within(leaf)] = append(silent[within(leaf)], leaf)
		}
	}
	for i, without := range scenarios {
		values := example(t, leaves, without)
		whole := render(t, c, values)
		checkObjects(t, fmt.Sprintf("scenario %d", i), whole)
		before := byComponent(whole)
		for rest, paths := range silent {
			if i > 0 && slices.Contains(without, rest) && !slices.Contains(shown, rest) {
				continue // not given here, so nothing can be taken away
			}
			changed := example(t, leaves, without)
			hidden := example(t, leaves, slices.DeleteFunc(slices.Clone(without), func(w string) bool { return w == rest || within(w) == rest }))
			for _, path := range paths {
				if value, given := at(hidden, path); given && slices.Contains(shown, rest) {
					put(changed, path, value) // what hides objects is not among values, and set instead
				} else {
					put(changed, path, remove)
				}
			}
			after := map[string]string{}
			if r, err := c.render(release, changed, false); err == nil {
				after = byComponent(r)
			}
			silent[rest] = slices.DeleteFunc(paths, func(path string) bool {
				component, _, _ := strings.Cut(path, "/")
				if within(path) == path {
					component = "all"
				}
				return before[component] != after[component]
			})
			if len(silent[rest]) == 0 {
				delete(silent, rest)
			}
		}
	}
	for _, paths := range silent {
		for _, path := range paths {
			t.Errorf("%s does nothing: without it the same is rendered", path)
		}
	}
}

var release = Release{Name: "release", Namespace: "place"}

func render(t *testing.T, c *Chart, values map[string]any) Rendered {
	t.Helper()
	r, err := c.Render(release, values)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// byComponent returns the documents that name a component, by component, and everything as "all".
func byComponent(r Rendered) map[string]string {
	parts := map[string]string{"all": string(r.Manifests) + r.Notes}
	for document := range strings.SplitSeq(string(r.Manifests), "---\n") {
		if _, rest, ok := strings.Cut(document, "app.kubernetes.io/component: "); ok {
			component := strings.TrimSuffix(strings.Fields(rest)[0], "-headless")
			parts[component] += document
		}
	}
	return parts
}

// outside are objects that the examples refer to and somebody else makes.
var outside = []string{"Secret/pull", "Secret/made", "Secret/text", "ConfigMap/made", "ServiceAccount/account", "PersistentVolumeClaim/claim"}

func checkObjects(t *testing.T, name string, r Rendered) {
	t.Helper()
	all, err := objects.Decode(r.Manifests)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, err := range append(objects.Check(all, outside...), objects.CheckFlags(all, binaryFlags(t))...) {
		t.Errorf("%s: %v", name, err)
	}
}

// TestTemplatesUseKnownKeys finds keys that templates read and the schema does not accept, such as mistyped ones.
func TestTemplatesUseKnownKeys(t *testing.T) {
	known := map[string]bool{}
	readSchema(t, clusterDir).names(known)
	readSchema(t, singleDir).names(known) // they share templates
	for _, name := range []string{
		"Values", "Release", "Name", "Namespace", "Service", "Chart", "Version", "AppVersion", "Capabilities", "APIVersions", "Has", // Helm's
		"root", "c", "prefix", "path", "context", "flags", "mounts", "volumes", "sidecar", "restore", "claim", "i", "ctx", // of the templates' own calls
		"protocol", "hostPath", "secretName", "httpGet", "tcpSocket", // Kubernetes'
		"httpListenAddr", "vminsertAddr", "vmselectAddr", // flags
	} {
		known[name] = true
	}
	files, err := filepath.Glob("../../helm/*/templates/*")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d templates, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tree := parse.New(file)
		tree.Mode = parse.SkipFuncCheck
		set := map[string]*parse.Tree{}
		if _, err := tree.Parse(string(text), "", "", set); err != nil {
			t.Fatal(err)
		}
		for _, tree := range set {
			for _, name := range fieldsOf(tree.Root) {
				if !known[name] {
					t.Errorf("%s reads the key %s, which values.schema.json does not have", filepath.Base(file), name)
				}
			}
		}
	}
}

// fieldsOf returns the names of all fields which a template reads.
func fieldsOf(node parse.Node) []string {
	switch n := node.(type) {
	case *parse.ListNode:
		var all []string
		if n != nil {
			for _, node := range n.Nodes {
				all = append(all, fieldsOf(node)...)
			}
		}
		return all
	case *parse.ActionNode:
		return fieldsOf(n.Pipe)
	case *parse.IfNode:
		return slices.Concat(fieldsOf(n.Pipe), fieldsOf(n.List), fieldsOf(n.ElseList))
	case *parse.WithNode:
		return slices.Concat(fieldsOf(n.Pipe), fieldsOf(n.List), fieldsOf(n.ElseList))
	case *parse.RangeNode:
		return slices.Concat(fieldsOf(n.Pipe), fieldsOf(n.List), fieldsOf(n.ElseList))
	case *parse.TemplateNode:
		return fieldsOf(n.Pipe)
	case *parse.PipeNode:
		var all []string
		if n != nil {
			for _, command := range n.Cmds {
				for _, arg := range command.Args {
					all = append(all, fieldsOf(arg)...)
				}
			}
		}
		return all
	case *parse.FieldNode:
		return n.Ident
	case *parse.VariableNode:
		return n.Ident[1:]
	case *parse.ChainNode:
		return append(fieldsOf(n.Node), n.Field...)
	}
	return nil
}

// row is a key of values.yaml with its comment.
type row struct {
	path, text, value string
}

// describe returns the keys of values.yaml which have a comment, in their order.
func describe(t *testing.T, text []byte) []row {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	return describeMap(t, document.Content[0], "")
}

func describeMap(t *testing.T, node *yaml.Node, path string) []row {
	t.Helper()
	var rows []row
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		own := strings.TrimPrefix(path+"/"+key.Value, "/")
		lines := strings.Split(strings.TrimSpace(key.HeadComment), "\n")
		comment := strings.TrimSpace(strings.TrimPrefix(lines[len(lines)-1], "#"))
		if comment != "" {
			rows = append(rows, row{own, comment, plain(t, value)})
		}
		if value.Kind == yaml.MappingNode && (comment == "" || !strings.Contains(own, "ecurityContext")) {
			rows = append(rows, describeMap(t, value, own)...)
		}
	}
	return rows
}

// plain is a value as JSON, which YAML is.
func plain(t *testing.T, node *yaml.Node) string {
	t.Helper()
	var value any
	if err := node.Decode(&value); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
