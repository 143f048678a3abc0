module gioui.org/cpurender

go 1.26

require gioui.org v0.10.3 // indirect
