package loop

import (
	"context"
	"errors"
	"fmt"
	"image"

	"gioui.org/io/input"
	"gioui.org/io/semantic"
)

// Node is one element of the page as its semantic operations describe it.
type Node struct {
	Label       string
	Description string
	Class       semantic.ClassOp
	Rect        image.Rectangle // in pixels of the picture
	Clickable   bool
	Disabled    bool
	Selected    bool
	Parent      int // index in the list, -1 for the root
}

// ErrNoElement is wrapped by Locate when no element has the label.
var ErrNoElement = errors.New("no such element on the page")

// Semantics returns the elements of the page as it is shown, parents before
// their children.
func (l *Loop) Semantics(ctx context.Context) ([]Node, error) {
	var nodes []Node
	err := l.query(ctx, func() {
		tree := l.router.AppendSemantics(nil)
		if len(tree) > 0 {
			nodes = appendNodes(nil, tree[0], -1)
		}
	})
	return nodes, err
}

// appendNodes appends a node and what is in it, in drawing order. What is in a
// disabled element is disabled.
func appendNodes(nodes []Node, n input.SemanticNode, parent int) []Node {
	d := n.Desc
	nodes = append(nodes, Node{
		Label: d.Label, Description: d.Description, Class: d.Class, Rect: d.Bounds,
		Clickable: d.Gestures&input.ClickGesture != 0, Disabled: d.Disabled || parent >= 0 && nodes[parent].Disabled,
		Selected: d.Selected, Parent: parent,
	})
	self := len(nodes) - 1
	for _, c := range n.Children {
		nodes = appendNodes(nodes, c, self)
	}
	return nodes
}

// Locate returns the visible part of the element to press for a label: the
// first element with the label, in drawing order, that can be clicked itself
// or through an element around it. Elements outside the picture, disabled ones
// and plain text are not found.
func (l *Loop) Locate(ctx context.Context, label string) (image.Rectangle, error) {
	nodes, err := l.Semantics(ctx)
	if err != nil {
		return image.Rectangle{}, err
	}
	screen := image.Rectangle{Max: l.cfg.Platform.Size()}
	for i, n := range nodes {
		if n.Label != label || n.Disabled {
			continue
		}
		for i >= 0 && !nodes[i].Clickable {
			i = nodes[i].Parent
		}
		if i < 0 {
			continue
		}
		if r := nodes[i].Rect.Intersect(screen); !r.Empty() {
			return r, nil
		}
	}
	return image.Rectangle{}, fmt.Errorf("locate %q: %w", label, ErrNoElement)
}
