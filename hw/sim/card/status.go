package card

// Status words of gemSpec_COS 16.2, by their trailer names where they have
// one meaning, else by what they say here.
const (
	swOK                    uint16 = 0x9000
	swDataTruncated         uint16 = 0x6200
	swEndOfFile             uint16 = 0x6282 // also EndOfRecord, UnsuccessfulSearch
	swFileDeactivated       uint16 = 0x6283
	swFileTerminated        uint16 = 0x6285
	swRecordDeactivated     uint16 = 0x6287
	swTransportPIN          uint16 = 0x62C1
	swEmptyPIN              uint16 = 0x62C7
	swPasswordDisabled      uint16 = 0x62D0
	swAuthenticationFailure uint16 = 0x6300
	swRetry                 uint16 = 0x63C0 // | tries left
	swKeyInvalid            uint16 = 0x6400 // also ParameterMismatch, ObjectTerminated
	swMemoryFailure         uint16 = 0x6581
	swWrongLength           uint16 = 0x6700 // also WrongRecordLength
	swChannelClosed         uint16 = 0x6881
	swWrongFileType         uint16 = 0x6981
	swNoMoreChannels        uint16 = 0x6981
	swSecurityStatus        uint16 = 0x6982
	swBlocked               uint16 = 0x6983 // PasswordBlocked, CommandBlocked, KeyExpired
	swConditions            uint16 = 0x6985 // PasswordNotUsable, WrongPasswordLength, NoKeyReference, NoRandom, ...
	swNoCurrentEF           uint16 = 0x6986
	swIncorrectSMObjects    uint16 = 0x6988
	swVerificationError     uint16 = 0x6A80 // also WrongToken
	swUnsupportedFunction   uint16 = 0x6A81
	swFileNotFound          uint16 = 0x6A82
	swRecordNotFound        uint16 = 0x6A83
	swDataTooBig            uint16 = 0x6A84 // also FullRecordList, OutOfMemory
	swWrongP1P2             uint16 = 0x6A86
	swNotFound              uint16 = 0x6A88 // KeyNotFound, PasswordNotFound, InconsistentKeyReference
	swOffsetTooBig          uint16 = 0x6B00
	swInstruction           uint16 = 0x6D00
	swClassNotSupported     uint16 = 0x6E00
	swRandomFailure         uint16 = 0x6F00
)
