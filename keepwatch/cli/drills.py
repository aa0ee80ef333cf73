"""Commands about proof: drill, drill log."""




_CODES = "0 passed; 1 could not be carried out; 2 usage or configuration; 3 inconclusive; 4 failed"
