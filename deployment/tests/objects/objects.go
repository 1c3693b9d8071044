package objects

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Decode reads a stream of YAML documents as objects of the Kubernetes API. Empty documents are skipped. A field that
// a type does not have, a field given twice, or a kind that is not known is an error which tells the document.
func Decode(stream []byte) ([]runtime.Object, error) {
	known := kinds()
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, known, known, json.SerializerOptions{Yaml: true, Strict: true})
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(stream)))
	var all []runtime.Object
	for n := 1; ; n++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read document %d: %w", n, err)
		}
		if len(bytes.TrimSpace(withoutComments(document))) == 0 {
			continue
		}
		object, _, err := strict.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("cannot decode document %d: %w:\n%s", n, err, document)
		}
		all = append(all, object)
	}
}

// withoutComments leaves out lines which say nothing to a reader of YAML.
func withoutComments(document []byte) []byte {
	var kept []byte
	for line := range bytes.Lines(document) {
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 && trimmed[0] != '#' && !bytes.Equal(trimmed, []byte("---")) {
			kept = append(kept, line...)
		}
	}
	return kept
}
