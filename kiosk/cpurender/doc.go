// Package cpurender paints Gio operation lists in plain Go.
package cpurender
