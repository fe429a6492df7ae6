//! The kernel's symbol table, as the kernel reads it: `boot/symbols`.
//!
//! ```text
//! u64 magic "VMSYMS1\0"  u32 count  u32 bytes of names
//! count times: u64 address  u32 size  u32 offset of the name       sorted by address
//! names, each zero-terminated
//! ```
//!
//! All little endian (`docs/console.md`, "Initial file system"). Only functions are in it: it names return addresses in
//! a backtrace. Names are demangled here, without their hash, so that the kernel needs no demangler on its fault path.

use object::{Object, ObjectSymbol, SymbolKind};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"VMSYMS1\0";

/// Why a kernel gave no symbol table.
#[derive(Debug, Error)]
pub enum NoSymbols {
    /// The file is no object file that can be read.
    #[error("it is not a readable ELF file ({0})")]
    Unreadable(#[from] object::Error),
    /// It names no function, so that no report could.
    #[error("it has no function symbols: it was stripped")]
    Stripped,
}

/// A function of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Where it begins.
    pub address: u64,
    /// Its size, in bytes.
    pub size: u32,
    /// Its name, demangled, without the hash.
    pub name: String,
}

/// Makes the table of the kernel whose ELF file is `kernel`.
///
/// # Errors
///
/// When the file cannot be read or names no function.
pub fn table(kernel: &[u8]) -> Result<Vec<u8>, NoSymbols> {
    Ok(encode(&functions(&object::File::parse(kernel)?)?))
}

/// The functions of the object file `file`, sorted by address.
///
/// # Errors
///
/// When it names none.
pub fn functions(file: &object::File<'_>) -> Result<Vec<Symbol>, NoSymbols> {
    let mut symbols: Vec<Symbol> = file.symbols().filter_map(|symbol| function(&symbol)).collect();
    if symbols.is_empty() {
        return Err(NoSymbols::Stripped);
    }
    symbols.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
    // Functions that the linker folded into one keep the first of their names.
    symbols.dedup_by_key(|symbol| symbol.address);
    fill_sizes(&mut symbols);
    Ok(symbols)
}

/// The function of `symbols` that holds `address`, and how far into it that is: `name+0x12`.
#[must_use]
pub fn place(symbols: &[Symbol], address: u64) -> Option<String> {
    let after = symbols.partition_point(|symbol| symbol.address <= address);
    let symbol = symbols.get(after.checked_sub(1)?)?;
    let offset = address - symbol.address;
    (offset < u64::from(symbol.size)).then(|| format!("{}+{offset:#x}", symbol.name))
}

/// Gives assembly without a size everything up to the next symbol.
fn fill_sizes(symbols: &mut [Symbol]) {
    let starts: Vec<u64> = symbols.iter().skip(1).map(|symbol| symbol.address).collect();
    for (symbol, next) in symbols.iter_mut().zip(starts).filter(|(symbol, _)| symbol.size == 0) {
        symbol.size = u32::try_from(next - symbol.address).unwrap_or(u32::MAX);
    }
}

fn function<'data>(symbol: &impl ObjectSymbol<'data>) -> Option<Symbol> {
    // Assembly labels often have no type; those with a size are functions all the same.
    let code = symbol.kind() == SymbolKind::Text || (symbol.kind() == SymbolKind::Unknown && symbol.size() > 0);
    let name = symbol.name().ok().filter(|name| !name.is_empty())?;
    (code && symbol.is_definition()).then(|| Symbol {
        address: symbol.address(),
        size: u32::try_from(symbol.size()).unwrap_or(u32::MAX),
        name: format!("{:#}", rustc_demangle::demangle(name)),
    })
}

fn encode(symbols: &[Symbol]) -> Vec<u8> {
    let mut names = Vec::new();
    let mut entries = Vec::new();
    for symbol in symbols {
        entries.extend_from_slice(&symbol.address.to_le_bytes());
        entries.extend_from_slice(&symbol.size.to_le_bytes());
        entries.extend_from_slice(&length(names.len()));
        names.extend_from_slice(symbol.name.as_bytes());
        names.push(0);
    }
    [MAGIC, &length(symbols.len())[..], &length(names.len()), &entries, &names].concat()
}

/// A length of the table as its `u32`.
///
/// # Panics
///
/// When it does not fit: a kernel with 4 GiB of names is not this one.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a table below 4 GiB").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::{NoSymbols, Symbol, encode, place, table};

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    }

    #[test]
    fn the_table_is_laid_out_as_the_contract_says() {
        let symbol = |address, name: &str| Symbol { address, size: 16, name: name.into() };
        let bytes = encode(&[symbol(0x1000, "a::b"), symbol(0x2000, "c")]);
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().expect("eight")), 0x0031_534d_5953_4d56);
        assert_eq!((word(&bytes, 8), word(&bytes, 12)), (2, 7));
        assert_eq!((word(&bytes, 16), word(&bytes, 24), word(&bytes, 28)), (0x1000, 16, 0));
        assert_eq!((word(&bytes, 32), word(&bytes, 44)), (0x2000, 5));
        assert_eq!(&bytes[48..], b"a::b\0c\0");
    }

    #[test]
    fn a_program_with_symbols_has_a_sorted_demangled_table() {
        let own = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
        let bytes = table(&own).expect("a test has symbols");
        let count = word(&bytes, 8) as usize;
        let address = |index: usize| bytes[16 + 16 * index..][..8].try_into().map(u64::from_le_bytes).expect("eight");
        assert!((1..count).all(|index| address(index - 1) < address(index)));
        let names = String::from_utf8_lossy(&bytes[16 + 16 * count..]);
        assert!(names.split('\0').any(|name| name == "vmstack_cli::symbols::table"), "demangled, without the hash");
    }

    #[test]
    fn an_address_is_named_by_the_function_that_holds_it() {
        let symbol = |address, name: &str| Symbol { address, size: 16, name: name.into() };
        let symbols = [symbol(0x1000, "a"), symbol(0x2000, "b")];
        assert_eq!(place(&symbols, 0x100f).as_deref(), Some("a+0xf"));
        assert_eq!(place(&symbols, 0x2000).as_deref(), Some("b+0x0"));
        assert_eq!((place(&symbols, 0x1010), place(&symbols, 0xfff), place(&[], 0)), (None, None, None));
    }

    #[test]
    fn what_is_no_object_file_is_refused() {
        assert!(matches!(table(b"text"), Err(NoSymbols::Unreadable(_))));
    }
}
