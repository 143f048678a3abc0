package tsl

type signature struct{}
